// The scenarios of Go's clientv3 and its packages: everything of their API that one member serves.
package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	v3 "go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
	"go.etcd.io/etcd/clientv3/leasing"
	"go.etcd.io/etcd/clientv3/mirror"
	"go.etcd.io/etcd/clientv3/namespace"
	"go.etcd.io/etcd/clientv3/ordering"
	recipe "go.etcd.io/etcd/contrib/recipes"
	"go.etcd.io/etcd/etcdserver/api/v3rpc/rpctypes"
	"go.etcd.io/etcd/etcdserver/etcdserverpb"
)

const eventLimit = 15 * time.Second

var scenarios = []scenario{
	{"put_and_get", "KV.Put", true, putAndGet},
	{"ranges", "KV.Range", true, ranges},
	{"sorted_ranges", "KV.Range", true, sortedRanges},
	{"filtered_ranges", "KV.Range", true, filteredRanges},
	{"deletes", "KV.DeleteRange", true, deletes},
	{"every_comparison", "KV.Txn", true, everyComparison},
	{"nested_transactions", "KV.Txn", true, nestedTransactions},
	{"transaction_of_128_operations", "KV.Txn", true, transactionOf128},
	{"refused_transactions", "KV.Txn", true, refusedTransactions},
	{"contended_counter", "KV.Txn", true, contendedCounter},
	{"software_transactions", "KV.Txn", true, softwareTransactions},
	{"large_value", "KV.Put", true, largeValue},
	{"list_of_10000_keys", "KV.Range", false, tenThousand},
	{"lease_and_its_keys", "Lease.LeaseGrant", true, leaseAndKeys},
	{"unknown_leases", "Lease.LeaseRevoke", true, unknownLeases},
	{"keep_alive_stream", "Lease.LeaseKeepAlive", true, keepAliveStream},
	{"keep_alive_over_a_restart", "Lease.LeaseKeepAlive", false, keepAliveOverRestart},
	{"expired_lease", "Lease.LeaseGrant", true, expiredLease},
	{"watch_a_prefix", "Watch.Watch", true, watchPrefix},
	{"watch_from_a_revision", "Watch.Watch", true, watchFromRevision},
	{"watch_filters", "Watch.Watch", true, watchFilters},
	{"watch_fragments", "Watch.Watch", true, watchFragments},
	{"many_watches", "Watch.Watch", true, manyWatches},
	{"bursts_of_cancelled_calls_leave_a_watch_alive", "Watch.Watch", true, cancelledBursts},
	{"watch_progress", "Watch.Watch", true, watchProgress},
	{"watch_compacted_revision", "Watch.Watch", true, watchCompacted},
	{"watch_resumes_after_a_restart", "Watch.Watch", true, watchResumes},
	{"calls_while_it_is_away", "KV.Range", false, callsWhileAway},
	{"reconnect_storm", "KV.Range", true, reconnectStorm},
	{"mutex", "KV.Txn", true, mutex},
	{"mutex_of_the_dead", "Lease.LeaseGrant", false, mutexOfTheDead},
	{"elections", "KV.Txn", true, elections},
	{"election_over_a_restart", "KV.Txn", false, electionOverRestart},
	{"recipe_queues", "KV.Txn", true, queues},
	{"recipe_barriers", "Watch.Watch", true, barriers},
	{"recipe_read_write_mutex", "KV.Txn", true, readWriteMutex},
	{"namespaces", "KV.Txn", true, namespaces},
	{"leasing_cache", "KV.Txn", true, leasingCache},
	{"ordered_reads", "KV.Range", true, orderedReads},
	{"mirror", "Watch.Watch", true, mirrored},
	{"compaction", "KV.Compact", true, compaction},
	{"status", "Maintenance.Status", true, status},
	{"members", "Cluster.MemberList", true, members},
	{"defragment_and_hash", "Maintenance.HashKV", true, defragmentAndHash},
	{"alarms", "Maintenance.Alarm", true, alarms},
	{"sync", "Cluster.MemberList", true, syncEndpoints},
}

func (s *scene) put(key, value string, options ...v3.OpOption) int64 {
	answer, err := s.client.Put(s.ctx, s.prefix+key, value, options...)
	check(err)
	return answer.Header.Revision
}

// keys are those under the prefix, without it.
func (s *scene) keys(options ...v3.OpOption) []string {
	answer, err := s.client.Get(s.ctx, s.prefix, append([]v3.OpOption{v3.WithPrefix()}, options...)...)
	check(err)
	names := []string{}
	for _, kv := range answer.Kvs {
		names = append(names, strings.TrimPrefix(string(kv.Key), s.prefix))
	}
	return names
}

func (s *scene) value(key string) string {
	answer, err := s.client.Get(s.ctx, s.prefix+key)
	check(err)
	if len(answer.Kvs) == 0 {
		return "<none>"
	}
	return string(answer.Kvs[0].Value)
}

// events gathers this many as "PUT key value".
func (s *scene) events(watch v3.WatchChan, count int) []string {
	taken := []string{}
	late := time.After(eventLimit)
	for len(taken) < count {
		select {
		case response, open := <-watch:
			sure(open, "the watch ended after %v", taken)
			check(response.Err())
			for _, event := range response.Events {
				name := strings.TrimPrefix(string(event.Kv.Key), s.prefix)
				taken = append(taken, fmt.Sprintf("%s %s %s", event.Type, name, event.Kv.Value))
			}
		case <-late:
			fail("too few events: %v", taken)
		}
	}
	return taken
}

func (s *scene) watch(options ...v3.OpOption) v3.WatchChan {
	return s.client.Watch(s.ctx, s.prefix, append([]v3.OpOption{v3.WithPrefix()}, options...)...)
}

func (s *scene) parallel(count int, work func(int, *v3.Client)) {
	var group sync.WaitGroup
	failures := make(chan interface{}, count)
	for at := 0; at < count; at++ {
		client := s.another()
		group.Add(1)
		go func(at int) {
			defer group.Done()
			defer func() {
				if thrown := recover(); thrown != nil {
					failures <- thrown
				}
			}()
			work(at, client)
		}(at)
	}
	group.Wait()
	if len(failures) > 0 {
		panic(<-failures)
	}
}

// Keys and values

func putAndGet(s *scene) {
	first := s.put("a", "one")
	answer, err := s.client.Put(s.ctx, s.prefix+"a", "two", v3.WithPrevKV())
	check(err)
	equal([]interface{}{string(answer.PrevKv.Value), answer.Header.Revision}, []interface{}{"one", first + 1}, "previous and revision")
	got, err := s.client.Get(s.ctx, s.prefix+"a")
	check(err)
	kv := got.Kvs[0]
	equal([]int64{kv.CreateRevision, kv.ModRevision, kv.Version, got.Count}, []int64{first, first + 1, 2, 1}, "the key")
	lease, err := s.client.Grant(s.ctx, 60)
	check(err)
	s.put("a", "", v3.WithIgnoreValue(), v3.WithLease(lease.ID))
	s.put("a", "three", v3.WithIgnoreLease())
	got, err = s.client.Get(s.ctx, s.prefix+"a")
	check(err)
	equal([]interface{}{string(got.Kvs[0].Value), got.Kvs[0].Lease}, []interface{}{"three", int64(lease.ID)}, "value and lease")
	_, err = s.client.Put(s.ctx, s.prefix+"none", "", v3.WithIgnoreValue())
	equal(err, rpctypes.ErrKeyNotFound, "nothing whose value stays")
	_, err = s.client.Get(s.ctx, "")
	equal(err, rpctypes.ErrEmptyKey, "no key")
	_, err = s.client.Revoke(s.ctx, lease.ID)
	check(err)
}

func ranges(s *scene) {
	for _, key := range []string{"c", "a", "b", "d"} {
		s.put(key, key)
	}
	equal(s.keys(), "[a b c d]", "by prefix")
	got, err := s.client.Get(s.ctx, s.prefix+"b", v3.WithRange(s.prefix+"d"), v3.WithKeysOnly())
	check(err)
	equal([]int64{got.Count, int64(len(got.Kvs[0].Value))}, "[2 0]", "by range, keys only")
	got, err = s.client.Get(s.ctx, s.prefix+"c", v3.WithFromKey(), v3.WithLimit(1))
	check(err)
	sure(string(got.Kvs[0].Value) == "c" && got.Count >= 2 && got.More, "from a key, with a limit: %v", got)
	got, err = s.client.Get(s.ctx, s.prefix, v3.WithPrefix(), v3.WithCountOnly())
	check(err)
	equal([]int64{got.Count, int64(len(got.Kvs))}, "[4 0]", "the count only")
	equal(s.keys(v3.WithSerializable()), "[a b c d]", "serializable")
}

func sortedRanges(s *scene) {
	for _, pair := range []string{"a2", "b3", "c1", "a2"} {
		s.put(pair[:1], pair[1:])
	}
	rows := []struct {
		target   v3.SortTarget
		order    v3.SortOrder
		expected string
	}{
		{v3.SortByKey, v3.SortDescend, "[c b a]"},
		{v3.SortByCreateRevision, v3.SortDescend, "[c b a]"},
		{v3.SortByModRevision, v3.SortAscend, "[b c a]"},
		{v3.SortByValue, v3.SortAscend, "[c a b]"},
		{v3.SortByValue, v3.SortDescend, "[b a c]"},
	}
	for _, row := range rows {
		equal(s.keys(v3.WithSort(row.target, row.order)), row.expected, fmt.Sprint(row.target, row.order))
	}
	equal(s.keys(v3.WithSort(v3.SortByVersion, v3.SortDescend), v3.WithLimit(1)), "[a]", "by version")
	equal([]int{len(s.keys(v3.WithFirstKey()...)), len(s.keys(v3.WithLastRev()...))}, "[1 1]", "first and last")
}

func filteredRanges(s *scene) {
	first, second := s.put("a", "1"), s.put("b", "1")
	third := s.put("a", "2")
	equal(s.keys(v3.WithMinModRev(third)), "[a]", "changed since")
	equal(s.keys(v3.WithMaxModRev(second)), "[b]", "not changed since")
	equal(s.keys(v3.WithMinCreateRev(second)), "[b]", "made since")
	equal(s.keys(v3.WithMaxCreateRev(first)), "[a]", "made before")
	equal(s.keys(v3.WithRev(first)), "[a]", "at a revision")
	_, err := s.client.Get(s.ctx, s.prefix+"a", v3.WithRev(third+1000))
	equal(err, rpctypes.ErrFutureRev, "a revision to come")
}

func deletes(s *scene) {
	for _, key := range []string{"a", "b", "c", "d"} {
		s.put(key, key)
	}
	gone, err := s.client.Delete(s.ctx, s.prefix+"a", v3.WithPrevKV())
	check(err)
	equal([]interface{}{gone.Deleted, string(gone.PrevKvs[0].Value)}, "[1 a]", "one")
	gone, err = s.client.Delete(s.ctx, s.prefix+"b", v3.WithRange(s.prefix+"d"))
	check(err)
	equal(gone.Deleted, 2, "by range")
	gone, err = s.client.Delete(s.ctx, s.prefix, v3.WithPrefix())
	check(err)
	equal(gone.Deleted, 1, "by prefix")
	equal(s.keys(), "[]", "what is left")
}

// Transactions

func everyComparison(s *scene) {
	key := s.prefix + "a"
	made, changed := s.put("a", "m"), s.put("a", "m")
	rows := []struct {
		of               v3.Cmp
		same, less, more interface{}
	}{
		{v3.Value(key), "m", "l", "n"},
		{v3.Version(key), 2, 1, 3},
		{v3.CreateRevision(key), made, made - 1, made + 1},
		{v3.ModRevision(key), changed, changed - 1, changed + 1},
		{v3.LeaseValue(key), v3.LeaseID(0), v3.LeaseID(-1), v3.LeaseID(1)},
	}
	for at, row := range rows {
		compares := map[string][2]interface{}{"=": {row.same, row.less}, "!=": {row.less, row.same}, ">": {row.less, row.same}, "<": {row.more, row.same}}
		for operator, values := range compares {
			for which, value := range values {
				done, err := s.client.Txn(s.ctx).If(v3.Compare(row.of, operator, value)).Commit()
				check(err)
				equal(done.Succeeded, which == 0, fmt.Sprint(at, operator, value))
			}
		}
	}
	s.put("b", "m")
	all := v3.Compare(v3.Value(s.prefix), "=", "m").WithPrefix()
	done, err := s.client.Txn(s.ctx).If(all).Commit()
	check(err)
	equal(done.Succeeded, true, "every key of a prefix")
}

func nestedTransactions(s *scene) {
	s.put("a", "1")
	deep := v3.OpTxn([]v3.Cmp{v3.Compare(v3.Version(s.prefix+"in"), "=", 0)}, []v3.Op{v3.OpPut(s.prefix+"in", "deep")}, nil)
	done, err := s.client.Txn(s.ctx).If(v3.Compare(v3.Value(s.prefix+"a"), "=", "1")).
		Then(deep, v3.OpGet(s.prefix+"in"), v3.OpDelete(s.prefix+"a"), v3.OpGet(s.prefix+"a")).
		Else(v3.OpPut(s.prefix+"else", "")).Commit()
	check(err)
	equal(done.Responses[0].GetResponseTxn().Succeeded, true, "the inner one")
	equal(string(done.Responses[1].GetResponseRange().Kvs[0].Value), "deep", "what it wrote is seen")
	equal(done.Responses[2].GetResponseDeleteRange().Deleted, 1, "deleted")
	equal(len(done.Responses[3].GetResponseRange().Kvs), 0, "got after the delete")
	equal(s.keys(), "[in]", "what is there")
}

func transactionOf128(s *scene) {
	puts := []v3.Op{}
	for at := 0; at < 128; at++ {
		puts = append(puts, v3.OpPut(fmt.Sprintf("%s%03d", s.prefix, at), "x"))
	}
	done, err := s.client.Txn(s.ctx).Then(puts...).Commit()
	check(err)
	equal(len(done.Responses), 128, "answers")
	equal(len(s.keys(v3.WithMinModRev(done.Header.Revision))), 128, "keys of one revision")
	_, err = s.client.Txn(s.ctx).Then(append(puts, v3.OpPut(s.prefix+"more", "x"))...).Commit()
	equal(err, rpctypes.ErrTooManyOps, "129")
}

func refusedTransactions(s *scene) {
	put := v3.OpPut(s.prefix+"a", "1")
	_, err := s.client.Txn(s.ctx).Then(put, put).Commit()
	equal(err, rpctypes.ErrDuplicateKey, "twice")
	_, err = s.client.Txn(s.ctx).Then(put, v3.OpTxn(nil, []v3.Op{put}, nil)).Commit()
	equal(err, rpctypes.ErrDuplicateKey, "twice, once within")
	_, err = s.client.Txn(s.ctx).Then(put, v3.OpDelete(s.prefix, v3.WithPrefix())).Commit()
	equal(err, rpctypes.ErrDuplicateKey, "put and deleted")
	equal(s.keys(), "[]", "nothing is written")
}

func contendedCounter(s *scene) {
	s.put("n", "0")
	s.parallel(8, func(_ int, client *v3.Client) {
		for round := 0; round < 20; round++ {
			for {
				got, err := client.Get(s.ctx, s.prefix+"n")
				check(err)
				n, err := strconv.Atoi(string(got.Kvs[0].Value))
				check(err)
				same := v3.Compare(v3.ModRevision(s.prefix+"n"), "=", got.Kvs[0].ModRevision)
				done, err := client.Txn(s.ctx).If(same).Then(v3.OpPut(s.prefix+"n", strconv.Itoa(n+1))).Commit()
				check(err)
				if done.Succeeded {
					break
				}
			}
		}
	})
	equal(s.value("n"), "160", "the counter")
}

func softwareTransactions(s *scene) {
	levels := []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads}
	for _, level := range levels {
		s.put("from", "100")
		s.put("to", "0")
		s.parallel(4, func(_ int, client *v3.Client) {
			for round := 0; round < 5; round++ {
				_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
					from, _ := strconv.Atoi(stm.Get(s.prefix + "from"))
					to, _ := strconv.Atoi(stm.Get(s.prefix + "to"))
					stm.Put(s.prefix+"from", strconv.Itoa(from-1))
					stm.Put(s.prefix+"to", strconv.Itoa(to+1))
					return nil
				}, concurrency.WithIsolation(level), concurrency.WithAbortContext(s.ctx))
				check(err)
			}
		})
		equal(s.value("from")+" "+s.value("to"), "80 20", fmt.Sprint("level ", level))
	}
}

// Size

func largeValue(s *scene) {
	value := strings.Repeat("quoin123", 1<<17)
	s.put("big", value)
	sure(s.value("big") == value, "a mebibyte comes back as it was")
	_, err := s.client.Put(s.ctx, s.prefix+"huge", value+value[:1<<19])
	equal(err, rpctypes.ErrRequestTooLarge, "too large")
}

func tenThousand(s *scene) {
	for start := 0; start < 10000; start += 125 {
		puts := []v3.Op{}
		for at := start; at < start+125; at++ {
			puts = append(puts, v3.OpPut(fmt.Sprintf("%s%05d", s.prefix, at), strconv.Itoa(at)))
		}
		_, err := s.client.Txn(s.ctx).Then(puts...).Commit()
		check(err)
	}
	keys := s.keys()
	sure(len(keys) == 10000 && keys[0] == "00000" && keys[9999] == "09999", "%d keys, in order", len(keys))
	from, seen := s.prefix, 0
	for {
		page, err := s.client.Get(s.ctx, from, v3.WithRange(v3.GetPrefixRangeEnd(s.prefix)), v3.WithLimit(700))
		check(err)
		seen += len(page.Kvs)
		if !page.More {
			break
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	equal(seen, 10000, "by pages")
}

// Leases

func leaseAndKeys(s *scene) {
	lease, err := s.client.Grant(s.ctx, 60)
	check(err)
	s.put("a", "1", v3.WithLease(lease.ID))
	s.put("b", "1", v3.WithLease(lease.ID))
	about, err := s.client.TimeToLive(s.ctx, lease.ID, v3.WithAttachedKeys())
	check(err)
	equal([]int64{about.GrantedTTL, int64(len(about.Keys))}, "[60 2]", "granted, and keys")
	sure(about.TTL > 50 && about.TTL <= 60, "left %d", about.TTL)
	all, err := s.client.Leases(s.ctx)
	check(err)
	sure(strings.Contains(fmt.Sprint(all.Leases), fmt.Sprint(int64(lease.ID))), "in the list of leases: %v", all.Leases)
	_, err = s.client.Revoke(s.ctx, lease.ID)
	check(err)
	equal(s.keys(), "[]", "after the revoke")
	about, err = s.client.TimeToLive(s.ctx, lease.ID)
	check(err)
	equal(about.TTL, -1, "a lease that is gone")
}

func unknownLeases(s *scene) {
	_, err := s.client.Revoke(s.ctx, 0x404)
	equal(err, rpctypes.ErrLeaseNotFound, "revoke")
	_, err = s.client.KeepAliveOnce(s.ctx, 0x404)
	equal(err, rpctypes.ErrLeaseNotFound, "keep alive")
	_, err = s.client.Put(s.ctx, s.prefix+"a", "1", v3.WithLease(0x404))
	equal(err, rpctypes.ErrLeaseNotFound, "put")
	_, err = s.client.Grant(s.ctx, 9000000001)
	equal(err, rpctypes.ErrLeaseTTLTooLarge, "too long")
}

func keepAliveStream(s *scene) {
	lease, err := s.client.Grant(s.ctx, 2)
	check(err)
	s.put("a", "1", v3.WithLease(lease.ID))
	ctx, cancel := context.WithCancel(s.ctx)
	answers, err := s.client.KeepAlive(ctx, lease.ID)
	check(err)
	count := 0
	for end := time.After(4 * time.Second); end != nil; {
		select {
		case answer, open := <-answers:
			sure(open && answer.TTL == 2, "kept alive: %v", answer)
			count++
		case <-end:
			end = nil
		}
	}
	sure(count >= 4, "kept alive %d times", count)
	cancel()
	equal(s.value("a"), "1", "after longer than its time")
	until(eventLimit, "the key goes with its lease", func() bool { return s.value("a") == "<none>" })
}

func keepAliveOverRestart(s *scene) {
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(6))
	check(err)
	s.put("a", "1", v3.WithLease(session.Lease()))
	for round := 0; round < 2; round++ {
		ask("restart")
		time.Sleep(7 * time.Second)
		select {
		case <-session.Done():
			fail("the session ended")
		default:
		}
		equal(s.value("a"), "1", "the key")
	}
	check(session.Close())
}

func expiredLease(s *scene) {
	lease, err := s.client.Grant(s.ctx, 2)
	check(err)
	watch := s.watch()
	s.put("a", "1", v3.WithLease(lease.ID))
	begun := time.Now()
	equal(s.events(watch, 2), "[PUT a 1 DELETE a ]", "the events")
	sure(time.Since(begun) > 1500*time.Millisecond, "not before its time: %v", time.Since(begun))
}

// Watches

func watchPrefix(s *scene) {
	ctx, cancel := context.WithCancel(s.ctx)
	watch := s.client.Watch(ctx, s.prefix, v3.WithPrefix(), v3.WithCreatedNotify())
	sure((<-watch).Created, "created")
	s.put("a", "1")
	s.put("b", "2")
	_, err := s.client.Delete(s.ctx, s.prefix+"a")
	check(err)
	equal(s.events(watch, 3), "[PUT a 1 PUT b 2 DELETE a ]", "the events")
	cancel()
	select {
	case _, open := <-watch:
		sure(!open, "ended by the cancel")
	case <-time.After(eventLimit):
		fail("not ended by the cancel")
	}
}

// cancelledBursts watches by a stream of its own: it ends with its connection, a watch of the client would be opened again.
func cancelledBursts(s *scene) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stream, err := etcdserverpb.NewWatchClient(s.client.ActiveConnection()).Watch(ctx)
	check(err)
	create := &etcdserverpb.WatchCreateRequest{Key: []byte(s.prefix + "a")}
	check(stream.Send(&etcdserverpb.WatchRequest{
		RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create},
	}))
	created, err := stream.Recv()
	check(err)
	sure(created.Created, "created")
	for burst := 0; burst < 50; burst++ {
		var calls sync.WaitGroup
		for call := 0; call < 400; call++ {
			calls.Add(1)
			go func() {
				defer calls.Done()
				soon, cancel := context.WithTimeout(s.ctx, time.Millisecond)
				defer cancel()
				_, _ = s.client.Get(soon, s.prefix+"a")
			}()
		}
		calls.Wait()
	}
	s.put("a", "1")
	told, err := stream.Recv()
	check(err)
	equal(len(told.Events), 1, "the events")
}

func watchFromRevision(s *scene) {
	first := s.put("a", "1")
	s.put("a", "2")
	_, err := s.client.Delete(s.ctx, s.prefix+"a")
	check(err)
	watch := s.watch(v3.WithRev(first), v3.WithPrevKV())
	previous, revisions := []string{}, []int64{}
	for len(revisions) < 3 {
		for _, event := range (<-watch).Events {
			value := "<none>"
			if event.PrevKv != nil {
				value = string(event.PrevKv.Value)
			}
			previous, revisions = append(previous, value), append(revisions, event.Kv.ModRevision)
		}
	}
	equal(previous, "[<none> 1 2]", "previous values")
	equal(revisions, []int64{first, first + 1, first + 2}, "revisions")
}

func watchFilters(s *scene) {
	puts, deletes := s.watch(v3.WithFilterDelete(), v3.WithRev(1+s.put("z", ""))), s.watch(v3.WithFilterPut())
	time.Sleep(200 * time.Millisecond)
	for _, key := range []string{"a", "b"} {
		s.put(key, "1")
		_, err := s.client.Delete(s.ctx, s.prefix+key)
		check(err)
	}
	equal(s.events(puts, 2), "[PUT a 1 PUT b 1]", "puts")
	equal(s.events(deletes, 2), "[DELETE a  DELETE b ]", "deletes")
}

func watchFragments(s *scene) {
	first := int64(0)
	value := strings.Repeat("x", 1<<20)
	for _, key := range []string{"a", "b", "c"} {
		if revision := s.put(key, value); first == 0 {
			first = revision
		}
	}
	equal(len(s.events(s.watch(v3.WithRev(first), v3.WithFragment()), 3)), 3, "events, in fragments")
}

func manyWatches(s *scene) {
	watches := []v3.WatchChan{}
	for at := 0; at < 100; at++ {
		watches = append(watches, s.client.Watch(s.ctx, s.prefix+strconv.Itoa(at), v3.WithCreatedNotify()))
	}
	for _, watch := range watches {
		sure((<-watch).Created, "created")
	}
	for at := range watches {
		s.put(strconv.Itoa(at), "x")
	}
	for at, watch := range watches {
		equal(s.events(watch, 1), fmt.Sprintf("[PUT %d x]", at), "the event")
	}
}

func watchProgress(s *scene) {
	watch := s.watch(v3.WithCreatedNotify())
	sure((<-watch).Created, "created")
	revision := s.put("a", "1")
	equal(s.events(watch, 1), "[PUT a 1]", "the event")
	check(s.client.RequestProgress(s.ctx))
	select {
	case response := <-watch:
		sure(response.IsProgressNotify() && response.Header.Revision >= revision, "progress: %v", response)
	case <-time.After(eventLimit):
		fail("no progress")
	}
}

func watchCompacted(s *scene) {
	first := s.put("a", "1")
	s.put("a", "2")
	last := s.put("a", "3")
	_, err := s.client.Compact(s.ctx, last)
	check(err)
	response := <-s.watch(v3.WithRev(first))
	equal([]interface{}{response.Err(), response.CompactRevision}, []interface{}{rpctypes.ErrCompacted, last}, "refused")
}

// watchResumes: the client resumes by itself; nothing is lost and nothing comes twice.
func watchResumes(s *scene) {
	watch := s.watch(v3.WithCreatedNotify())
	sure((<-watch).Created, "created")
	for round := 0; round < 2; round++ {
		at := strconv.Itoa(round)
		s.put("a"+at, "before")
		equal(s.events(watch, 1), "[PUT a"+at+" before]", "before")
		ask("kill")
		ask("start")
		s.put("b"+at, "after")
		s.put("c"+at, "after")
		equal(s.events(watch, 2), "[PUT b"+at+" after PUT c"+at+" after]", "after")
	}
}

func callsWhileAway(s *scene) {
	s.put("a", "1")
	ask("kill")
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	_, err := s.client.Put(ctx, s.prefix+"a", "never")
	cancel()
	sure(err != nil, "no put while it is away")
	// A read is retried by the client itself until the server is back.
	answered := make(chan string, 1)
	go func() {
		got, err := s.client.Get(s.ctx, s.prefix+"a")
		answered <- fmt.Sprint(err == nil && string(got.Kvs[0].Value) == "1")
	}()
	time.Sleep(300 * time.Millisecond)
	ask("start")
	select {
	case told := <-answered:
		equal(told, "true", "the read that waited")
	case <-time.After(20 * time.Second):
		fail("the read that waited did not end")
	}
}

func reconnectStorm(s *scene) {
	s.put("a", "1")
	s.parallel(20, func(_ int, _ *v3.Client) {
		for round := 0; round < 5; round++ {
			client, err := v3.New(v3.Config{Endpoints: []string{s.endpoint}, DialTimeout: 20 * time.Second})
			check(err)
			watch := client.Watch(s.ctx, s.prefix+"a", v3.WithCreatedNotify())
			sure((<-watch).Created, "created")
			got, err := client.Get(s.ctx, s.prefix+"a")
			check(err)
			equal(string(got.Kvs[0].Value), "1", "the value")
			client.Close()
		}
	})
	equal(s.value("a"), "1", "it still answers")
}

// Locks, elections and recipes

func (s *scene) session(client *v3.Client, options ...concurrency.SessionOption) *concurrency.Session {
	session, err := concurrency.NewSession(client, options...)
	check(err)
	return session
}

func mutex(s *scene) {
	var inside, most, entered int
	var guard sync.Mutex
	s.parallel(6, func(_ int, client *v3.Client) {
		lock := concurrency.NewMutex(s.session(client, concurrency.WithTTL(20)), s.prefix+"lock")
		for round := 0; round < 3; round++ {
			check(lock.Lock(s.ctx))
			guard.Lock()
			inside++
			entered++
			if inside > most {
				most = inside
			}
			guard.Unlock()
			done, err := client.Txn(s.ctx).If(lock.IsOwner()).Then(v3.OpGet(s.prefix)).Commit()
			check(err)
			sure(done.Succeeded, "the owner is known")
			time.Sleep(5 * time.Millisecond)
			guard.Lock()
			inside--
			guard.Unlock()
			check(lock.Unlock(s.ctx))
		}
	})
	equal([]int{most, entered}, "[1 18]", "how many at once, and in all")
}

func mutexOfTheDead(s *scene) {
	dead := s.session(s.client, concurrency.WithTTL(3))
	check(concurrency.NewMutex(dead, s.prefix+"lock").Lock(s.ctx))
	dead.Orphan()
	begun := time.Now()
	check(concurrency.NewMutex(s.session(s.another()), s.prefix+"lock").Lock(s.ctx))
	sure(time.Since(begun) > 1500*time.Millisecond, "not before its lease ends")
}

func elections(s *scene) {
	first := concurrency.NewElection(s.session(s.client), s.prefix+"e")
	second := concurrency.NewElection(s.session(s.another()), s.prefix+"e")
	_, err := first.Leader(s.ctx)
	equal(err, concurrency.ErrElectionNoLeader, "no leader yet")
	check(first.Campaign(s.ctx, "one"))
	seen := second.Observe(s.ctx)
	equal(string((<-seen).Kvs[0].Value), "one", "observed")
	elected := make(chan error, 1)
	go func() { elected <- second.Campaign(s.ctx, "two") }()
	check(first.Proclaim(s.ctx, "uno"))
	equal(string((<-seen).Kvs[0].Value), "uno", "observed")
	select {
	case <-elected:
		fail("two leaders")
	case <-time.After(200 * time.Millisecond):
	}
	check(first.Resign(s.ctx))
	check(<-elected)
	leader, err := first.Leader(s.ctx)
	check(err)
	equal(string(leader.Kvs[0].Value), "two", "the leader")
	check(second.Resign(s.ctx))
}

func electionOverRestart(s *scene) {
	first := concurrency.NewElection(s.session(s.client, concurrency.WithTTL(15)), s.prefix+"e")
	second := concurrency.NewElection(s.session(s.another(), concurrency.WithTTL(15)), s.prefix+"e")
	check(first.Campaign(s.ctx, "one"))
	elected := make(chan error, 1)
	go func() { elected <- second.Campaign(s.ctx, "two") }()
	until(eventLimit, "the second campaigns", func() bool { return len(s.keys()) == 2 })
	ask("restart")
	select {
	case err := <-elected:
		fail("the second is elected, or gives up, while the first leads: %v", err)
	case <-time.After(2 * time.Second):
	}
	check(first.Resign(s.ctx))
	select {
	case err := <-elected:
		check(err)
	case <-time.After(20 * time.Second):
		fail("the second is not elected")
	}
}

func queues(s *scene) {
	queue := recipe.NewQueue(s.client, s.prefix+"queue")
	taken := make(chan string, 30)
	go func() {
		other := recipe.NewQueue(s.another(), s.prefix+"queue")
		for at := 0; at < 30; at++ {
			value, err := other.Dequeue()
			if err != nil {
				value = err.Error()
			}
			taken <- value
		}
	}()
	for at := 0; at < 30; at++ {
		check(queue.Enqueue(strconv.Itoa(at)))
	}
	for at := 0; at < 30; at++ {
		select {
		case value := <-taken:
			equal(value, at, "in order")
		case <-time.After(eventLimit):
			fail("only %d were taken", at)
		}
	}
	priorities := recipe.NewPriorityQueue(s.client, s.prefix+"priorities")
	for _, at := range []uint16{3, 1, 2} {
		check(priorities.Enqueue(fmt.Sprint(at), at))
	}
	for _, expected := range []string{"1", "2", "3"} {
		value, err := priorities.Dequeue()
		check(err)
		equal(value, expected, "by priority")
	}
}

func barriers(s *scene) {
	barrier := recipe.NewBarrier(s.client, s.prefix+"barrier")
	check(barrier.Hold())
	passed := make(chan error, 3)
	for at := 0; at < 3; at++ {
		waiting := recipe.NewBarrier(s.another(), s.prefix+"barrier")
		go func() { passed <- waiting.Wait() }()
	}
	select {
	case <-passed:
		fail("passed while it is held")
	case <-time.After(300 * time.Millisecond):
	}
	check(barrier.Release())
	for at := 0; at < 3; at++ {
		check(<-passed)
	}
	var inside int
	var guard sync.Mutex
	s.parallel(3, func(_ int, client *v3.Client) {
		double := recipe.NewDoubleBarrier(s.session(client), s.prefix+"double", 3)
		guard.Lock()
		inside++
		guard.Unlock()
		check(double.Enter())
		guard.Lock()
		equal(inside, 3, "all are there once one enters")
		guard.Unlock()
		check(double.Leave())
	})
}

func readWriteMutex(s *scene) {
	value := 0
	s.parallel(4, func(at int, client *v3.Client) {
		lock := recipe.NewRWMutex(s.session(client), s.prefix+"rw")
		for round := 0; round < 3; round++ {
			if at%2 == 0 {
				check(lock.Lock())
				before := value
				time.Sleep(5 * time.Millisecond)
				value = before + 1
				check(lock.Unlock())
			} else {
				check(lock.RLock())
				check(lock.RUnlock())
			}
		}
	})
	equal(value, 6, "no write is lost")
}

func namespaces(s *scene) {
	kv := namespace.NewKV(s.client.KV, s.prefix)
	watch := namespace.NewWatcher(s.client.Watcher, s.prefix).Watch(s.ctx, "a", v3.WithCreatedNotify())
	sure((<-watch).Created, "created")
	_, err := kv.Txn(s.ctx).If(v3.Compare(v3.Version("a"), "=", 0)).Then(v3.OpPut("a", "1")).Commit()
	check(err)
	got, err := kv.Get(s.ctx, "a", v3.WithPrefix())
	check(err)
	equal(string(got.Kvs[0].Key), "a", "without the prefix")
	equal(string((<-watch).Events[0].Kv.Key), "a", "without the prefix")
	equal(s.value("a"), "1", "with the prefix")
}

func leasingCache(s *scene) {
	first, closeFirst, err := leasing.NewKV(s.client, s.prefix+"leases/")
	check(err)
	defer closeFirst()
	second, closeSecond, err := leasing.NewKV(s.another(), s.prefix+"leases/")
	check(err)
	defer closeSecond()
	for at := 0; at < 10; at++ {
		value := strconv.Itoa(at)
		_, err := first.Put(s.ctx, s.prefix+"a", value)
		check(err)
		got, err := second.Get(s.ctx, s.prefix+"a")
		check(err)
		equal(string(got.Kvs[0].Value), value, "what the other wrote is seen")
		_, err = second.Put(s.ctx, s.prefix+"b", value)
		check(err)
		got, err = first.Get(s.ctx, s.prefix+"b")
		check(err)
		equal(string(got.Kvs[0].Value), value, "what the other wrote is seen")
	}
}

func orderedReads(s *scene) {
	violated := func(_ v3.Op, _ v3.OpResponse, _ int64) error { return fmt.Errorf("a read from the past") }
	kv := ordering.NewKV(s.client.KV, violated)
	for at := 0; at < 50; at++ {
		s.put("a", strconv.Itoa(at))
		got, err := kv.Get(s.ctx, s.prefix+"a", v3.WithSerializable())
		check(err)
		equal(string(got.Kvs[0].Value), at, "the newest")
	}
}

func mirrored(s *scene) {
	for at := 0; at < 30; at++ {
		s.put(fmt.Sprintf("%02d", at), "old")
	}
	syncer := mirror.NewSyncer(s.client, s.prefix, 0)
	base, errors := syncer.SyncBase(s.ctx)
	count := 0
	for page := range base {
		count += len(page.Kvs)
	}
	check(<-errors)
	equal(count, 30, "what was there")
	updates := syncer.SyncUpdates(s.ctx)
	s.put("new", "1")
	equal(s.events(updates, 1), "[PUT new 1]", "what comes")
}

// Maintenance and the cluster

func compaction(s *scene) {
	first, last := s.put("a", "1"), s.put("a", "2")
	_, err := s.client.Compact(s.ctx, last, v3.WithCompactPhysical())
	check(err)
	_, err = s.client.Get(s.ctx, s.prefix+"a", v3.WithRev(first))
	equal(err, rpctypes.ErrCompacted, "read")
	_, err = s.client.Compact(s.ctx, first)
	equal(err, rpctypes.ErrCompacted, "again")
	_, err = s.client.Compact(s.ctx, last+1000)
	equal(err, rpctypes.ErrFutureRev, "to come")
	equal(s.value("a"), "2", "the newest")
}

func status(s *scene) {
	status, err := s.client.Status(s.ctx, s.endpoint)
	check(err)
	sure(strings.HasPrefix(status.Version, "3.") && status.DbSize > 0 && status.RaftIndex > 0, "%v", status)
	equal(status.Leader, status.Header.MemberId, "the leader")
}

func members(s *scene) {
	list, err := s.client.MemberList(s.ctx)
	check(err)
	equal([]interface{}{len(list.Members), list.Members[0].Name, list.Members[0].ClientURLs[0]}, "[1 judged http://"+s.endpoint+"]", "members")
}

func syncEndpoints(s *scene) {
	check(s.client.Sync(s.ctx))
	equal(s.client.Endpoints(), "[http://"+s.endpoint+"]", "endpoints")
	s.put("a", "1")
}

func defragmentAndHash(s *scene) {
	revision := s.put("a", "1")
	first, err := s.client.HashKV(s.ctx, s.endpoint, revision)
	check(err)
	_, err = s.client.Defragment(s.ctx, s.endpoint)
	check(err)
	s.put("a", "2")
	again, err := s.client.HashKV(s.ctx, s.endpoint, revision)
	check(err)
	equal(again.Hash, first.Hash, "the hash at a revision stays")
	next, err := s.client.HashKV(s.ctx, s.endpoint, 0)
	check(err)
	sure(next.Hash != first.Hash, "another hash at another revision")
}

func alarms(s *scene) {
	list, err := s.client.AlarmList(s.ctx)
	check(err)
	equal(len(list.Alarms), 0, "alarms")
	disarmed, err := s.client.AlarmDisarm(s.ctx, &v3.AlarmMember{})
	check(err)
	equal(len(disarmed.Alarms), 0, "nothing to disarm")
}
