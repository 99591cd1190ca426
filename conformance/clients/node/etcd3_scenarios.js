// The scenarios of the Node client `etcd3`: everything of its API that one member serves.
'use strict';

const { AlarmAction, AlarmType, Etcd3, EtcdLockFailedError, NotCampaigningError, STMConflictError } = require('etcd3');
const { ask, equal, main, raises, scenario, sleep, sure, until, within } = require('./harness.js');

const FAST = { fast: true };
const EVENT_LIMIT = 15_000;

// One client and keys of its own for one scenario.
class Scene {
  constructor(name, endpoint) {
    this.endpoint = endpoint;
    this.prefix = `node-${name}/`;
    this.clients = [];
    this.root = this.another();
    this.client = this.root.namespace(this.prefix);
  }

  another() {
    const client = new Etcd3({ hosts: `http://${this.endpoint}`, grpcOptions: { 'grpc.max_receive_message_length': -1 } });
    this.clients.push(client);
    return client;
  }

  async put(key, value) {
    const answer = await this.client.put(key).value(value).exec();
    return Number(answer.header.revision);
  }

  values() {
    return this.client.getAll().strings();
  }

  close() {
    for (const client of this.clients) client.close();
  }
}

async function open(name, endpoint) {
  const scene = new Scene(name, endpoint);
  await scene.client.delete().all();
  return scene;
}

// Gathers a watcher's events as 'put key value' and hands them out in order.
class Events {
  constructor(watcher) {
    this.taken = [];
    this.errors = [];
    watcher.on('put', (kv, previous) => this.taken.push(['put', String(kv.key), String(kv.value), kv.mod_revision, previous]));
    watcher.on('delete', (kv, previous) => this.taken.push(['delete', String(kv.key), '', kv.mod_revision, previous]));
    watcher.on('error', error => this.errors.push(error));
  }

  async next(count) {
    await until(EVENT_LIMIT, () => this.taken.length >= count || this.errors.length > 0, `${count} events`);
    if (this.errors.length > 0) throw this.errors[0];
    return this.taken.splice(0, count);
  }

  async short(count) {
    return (await this.next(count)).map(event => event.slice(0, 3).join(' '));
  }
}

// Keys and values

scenario('put_and_get', 'KV.Put', FAST, async ({ client, ...scene }) => {
  const first = await client.put('a').value('one').exec();
  const previous = await client.put('a').value('two').getPrevious();
  equal([String(previous.value), Number(previous.version)], ['one', 1], 'the previous value');
  equal(await client.get('a').string(), 'two', 'the value');
  const { kvs, count } = await client.get('a').exec();
  equal([kvs[0].create_revision, kvs[0].version, count], [first.header.revision, '2', '1'], 'revision, version, count');
  equal([await client.get('none'), await client.get('none').exists()], [null, false], 'a key that is not there');
  await client.put('n').value(42);
  equal(await client.get('n').number(), 42, 'a number');
  await client.put('j').value('{"a":[1]}');
  equal(await client.get('j').json(), { a: [1] }, 'json');
});

scenario('touch_and_ignored_leases', 'KV.Put', FAST, async ({ client }) => {
  const lease = client.lease(60);
  await lease.put('a').value('1');
  await client.put('a').value('2').ignoreLease();
  const kept = (await client.get('a').exec()).kvs[0];
  equal([String(kept.value), kept.lease], ['2', await lease.grant()], 'the lease stays');
  await client.put('a').touch();
  const touched = (await client.get('a').exec()).kvs[0];
  equal([String(touched.value), touched.version, touched.lease], ['2', '3', '0'], 'the value stays');
  await lease.revoke();
  await raises(client.put('gone').touch().then(answer => answer), 'etcdserver: key not found');
});

scenario('binary_values', 'KV.Put', FAST, async ({ client }) => {
  const every = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
  await client.put(Buffer.from([0, 255])).value(every);
  sure(every.equals(await client.get(Buffer.from([0, 255])).buffer()), 'every byte comes back');
  await client.put('empty').value('');
  equal(await client.get('empty').string(), '', 'an empty value');
});

scenario('ranges', 'KV.Range', FAST, async scene => {
  const { client } = scene;
  for (const key of ['c', 'a', 'b', 'd']) await scene.put(key, key.toUpperCase());
  equal(await client.getAll().keys(), ['a', 'b', 'c', 'd'], 'keys');
  equal(await scene.values(), { a: 'A', b: 'B', c: 'C', d: 'D' }, 'everything');
  equal(await client.getAll().inRange({ start: 'b', end: 'd' }).keys(), ['b', 'c'], 'by range');
  equal(await client.getAll().prefix('c').strings(), { c: 'C' }, 'by prefix');
  equal(await client.getAll().count(), 4, 'the count');
  const some = await client.getAll().limit(3).exec();
  equal([some.kvs.length, some.more, some.count], [3, true, '4'], 'limit, more and count');
  equal(await client.getAll().serializable(true).count(), 4, 'serializable');
});

scenario('sorted_ranges', 'KV.Range', FAST, async scene => {
  for (const [key, value] of [['a', '2'], ['b', '3'], ['c', '1'], ['a', '2']]) await scene.put(key, value);
  const rows = [
    ['Key', 'Descend', 'cba'],
    ['Create', 'Descend', 'cba'],
    ['Mod', 'Ascend', 'bca'],
    ['Value', 'Ascend', 'cab'],
    ['Value', 'Descend', 'bac'],
  ];
  for (const [target, order, expected] of rows) {
    const { kvs } = await scene.client.getAll().sort(target, order).exec();
    equal(kvs.map(kv => String(kv.key).slice(-1)).join(''), expected, `by ${target}, ${order}`);
  }
  const { kvs } = await scene.client.getAll().sort('Version', 'Descend').limit(1).exec();
  equal(String(kvs[0].value), '2', 'by version, the first');
});

scenario('old_revisions_and_filters', 'KV.Range', FAST, async scene => {
  const first = await scene.put('a', '1');
  const second = await scene.put('b', '1');
  const third = await scene.put('a', '2');
  equal(await scene.client.get('a').revision(first).string(), '1', 'at a revision');
  equal(await scene.client.getAll().minModRevision(third).keys(), ['a'], 'changed since');
  equal(await scene.client.getAll().maxModRevision(second).keys(), ['b'], 'not changed since');
  equal(await scene.client.getAll().minCreateRevision(second).keys(), ['b'], 'made since');
  equal(await scene.client.getAll().maxCreateRevision(first).keys(), ['a'], 'made before');
  await raises(scene.client.get('a').revision(third + 100).string(), 'mvcc: required revision is a future revision');
});

scenario('deletes', 'KV.DeleteRange', FAST, async scene => {
  for (const key of ['a', 'b', 'c', 'd']) await scene.put(key, key);
  equal((await scene.client.delete().key('a')).deleted, '1', 'one');
  equal((await scene.client.delete().key('a')).deleted, '0', 'the same again');
  const previous = await scene.client.delete().inRange({ start: 'b', end: 'd' }).getPrevious();
  equal(previous.map(kv => String(kv.value)), ['b', 'c'], 'the previous ones');
  equal((await scene.client.delete().prefix('d')).deleted, '1', 'by prefix');
  equal(await scene.values(), {}, 'what is left');
});

// Transactions

scenario('every_comparison', 'KV.Txn', FAST, async scene => {
  const made = await scene.put('a', 'm');
  const changed = await scene.put('a', 'm');
  const rows = [
    ['Value', 'm', 'l', 'n'],
    ['Version', 2, 1, 3],
    ['Create', made, made - 1, made + 1],
    ['Mod', changed, changed - 1, changed + 1],
    ['Lease', 0, -1, 1],
  ];
  for (const [column, same, less, more] of rows) {
    const compares = [['==', same, true], ['==', less, false], ['!=', less, true], ['!=', same, false]];
    compares.push(['>', less, true], ['>', same, false], ['<', more, true], ['<', same, false]);
    for (const [operator, value, expected] of compares) {
      const { succeeded } = await scene.client.if('a', column, operator, value).commit();
      equal(succeeded, expected, `${column} ${operator} ${value}`);
    }
  }
  const both = await scene.client.if('a', 'Value', '==', 'm').and('a', 'Version', '==', 9).commit();
  equal(both.succeeded, false, 'one of two holds');
});

scenario('transaction_answers', 'KV.Txn', FAST, async scene => {
  const { client } = scene;
  await scene.put('a', '1');
  const then = [client.put('b').value('2'), client.get('a'), client.delete().key('a'), client.get('a')];
  const done = await client.if('a', 'Value', '==', '1').then(...then).else(client.put('c').value('3')).commit();
  equal(done.succeeded, true, 'the comparison');
  equal(done.responses.map(answer => answer.response), ['response_put', 'response_range', 'response_delete_range', 'response_range'], 'kinds');
  equal(String(done.responses[1].response_range.kvs[0].value), '1', 'got before the delete');
  equal(done.responses[3].response_range.kvs.length, 0, 'got after the delete');
  equal(await scene.values(), { b: '2' }, 'what is there');
});

scenario('nested_transaction', 'KV.Txn', FAST, async scene => {
  const put = key => ({ request_put: { key: Buffer.from(`${scene.prefix}${key}`), value: Buffer.from('deep') } });
  const inner = { request_txn: { compare: [], success: [put('in')], failure: [] } };
  const done = await scene.client.if('none', 'Version', '==', 0).then(inner, scene.client.put('out').value('flat')).commit();
  equal(done.responses[0].response_txn.succeeded, true, 'the inner one');
  equal(await scene.values(), { in: 'deep', out: 'flat' }, 'what is there');
});

scenario('transaction_of_128_operations', 'KV.Txn', FAST, async scene => {
  const puts = Array.from({ length: 128 }, (_, at) => scene.client.put(`${at}`).value(at));
  const done = await scene.client.if('none', 'Version', '==', 0).then(...puts).commit();
  equal([done.succeeded, done.responses.length], [true, 128], 'succeeded, with answers');
  const { kvs } = await scene.client.getAll().exec();
  equal([kvs.length, new Set(kvs.map(kv => kv.mod_revision)).size], [128, 1], 'keys and revisions');
  puts.push(scene.client.put('128').value(1));
  const refused = scene.client.if('none', 'Version', '==', 0).then(...puts).commit();
  await raises(refused, 'etcdserver: too many operations in txn request');
});

scenario('refused_transactions', 'KV.Txn', FAST, async scene => {
  const twice = [scene.client.put('a').value(1), scene.client.put('a').value(2)];
  const refused = scene.client.if('none', 'Version', '==', 0).then(...twice).commit();
  await raises(refused, 'etcdserver: duplicate key given in txn request');
  await raises(scene.root.put('').value('1').exec(), 'etcdserver: key is not provided');
  equal(await scene.values(), {}, 'nothing is written');
});

scenario('contended_counter', 'KV.Txn', FAST, async scene => {
  await scene.put('n', '0');
  const work = async client => {
    for (let round = 0; round < 20; round += 1) {
      for (;;) {
        const value = await client.get('n').string();
        const next = client.put('n').value(Number(value) + 1);
        if ((await client.if('n', 'Value', '==', value).then(next).commit()).succeeded) break;
      }
    }
  };
  await Promise.all(Array.from({ length: 8 }, () => work(scene.another().namespace(scene.prefix))));
  const { kvs } = await scene.client.get('n').exec();
  equal([String(kvs[0].value), kvs[0].version], ['160', '161'], 'the counter and its version');
});

const ISOLATIONS = [['serializable', 1], ['repeatable_reads', 2], ['read_committed', 3]];
for (const [name, isolation] of ISOLATIONS) {
  scenario(`software_transactions_${name}`, 'KV.Txn', FAST, async scene => {
    await scene.client.put('from').value(100);
    await scene.client.put('to').value(0);
    const move = client =>
      client.stm({ isolation, retries: 200 }).transact(async tx => {
        const [from, to] = [await tx.get('from').number(), await tx.get('to').number()];
        await tx.put('from').value(from - 1);
        await tx.put('to').value(to + 1);
      });
    const clients = Array.from({ length: 4 }, () => scene.another().namespace(scene.prefix));
    for (let round = 0; round < 5; round += 1) {
      // Committed reads alone do not keep two from moving the same one, so they go in turn.
      if (isolation === 3) for (const client of clients) await move(client);
      else await Promise.all(clients.map(move));
    }
    equal(await scene.client.getAll().numbers(), { from: 80, to: 20 }, 'nothing lost, nothing twice');
  });
}

// This client refuses a snapshot's write to a key as new as what was read, so the read one is older than the written.
scenario('software_transactions_serializable_snapshot', 'KV.Txn', FAST, async scene => {
  await scene.client.put('from').value(7);
  await scene.client.stm({ isolation: 0 }).transact(async tx => {
    await tx.put('to').value(await tx.get('from').number());
  });
  equal(await scene.client.getAll().numbers(), { from: 7, to: 7 }, 'copied');
});

scenario('software_transaction_conflict', 'KV.Txn', FAST, async scene => {
  await scene.put('a', '1');
  const conflict = scene.client.stm({ retries: 0 }).transact(async tx => {
    await tx.get('a');
    await scene.put('a', 'between');
    await tx.put('a').value('2');
  });
  sure((await raises(conflict, '')) instanceof STMConflictError, 'a conflict');
  equal(await scene.client.get('a').string(), 'between', 'the value');
});

// Size

scenario('large_value', 'KV.Put', FAST, async scene => {
  const value = Buffer.alloc(1 << 20, 'quoin');
  await scene.client.put('big').value(value);
  sure(value.equals(await scene.client.get('big').buffer()), 'a mebibyte comes back as it was');
  const huge = Buffer.alloc((1 << 20) + (1 << 19), 'x');
  await raises(scene.client.put('huge').value(huge).exec(), 'etcdserver: request is too large');
});

scenario('list_of_10000_keys', 'KV.Range', {}, async scene => {
  const { client } = scene;
  for (let start = 0; start < 10_000; start += 125) {
    const puts = Array.from({ length: 125 }, (_, at) => client.put(`${10_000 + start + at}`).value(start + at));
    await client.if('none', 'Version', '==', 0).then(...puts).commit();
  }
  const { kvs } = await client.getAll().exec();
  sure(kvs.length === 10_000 && kvs.every((kv, at) => Number(kv.value) === at), `${kvs.length} keys, in order`);
  equal((await client.delete().all()).deleted, '10000', 'deleted');
});

// Leases

scenario('lease_and_its_keys', 'Lease.LeaseGrant', FAST, async ({ client, root }) => {
  const lease = client.lease(60, { autoKeepAlive: false });
  await lease.put('a').value('1');
  await client.put('b').value('2').lease(lease.grant());
  const about = await root.leaseClient.leaseTimeToLive({ ID: await lease.grant(), keys: true });
  equal([about.grantedTTL, about.keys.map(key => String(key).slice(-1)).sort()], ['60', ['a', 'b']], 'granted, and keys');
  const all = await root.leaseClient.leaseLeases();
  sure(all.leases.some(({ ID }) => ID === about.ID), 'in the list of leases');
  await lease.revoke();
  equal(await client.getAll().count(), 0, 'after the revoke');
  equal((await root.leaseClient.leaseTimeToLive({ ID: about.ID })).TTL, '-1', 'a lease that is gone');
});

scenario('duplicate_and_unknown_leases', 'Lease.LeaseGrant', FAST, async ({ client, root }) => {
  const chosen = { TTL: 60, ID: 0x7a13 };
  await root.leaseClient.leaseRevoke({ ID: chosen.ID }).catch(() => undefined);
  equal((await root.leaseClient.leaseGrant(chosen)).ID, '31251', 'the id');
  await raises(root.leaseClient.leaseGrant(chosen), 'etcdserver: lease already exists');
  await root.leaseClient.leaseRevoke({ ID: chosen.ID });
  await raises(root.leaseClient.leaseRevoke({ ID: chosen.ID }), '');
  await raises(client.put('a').value('1').lease(chosen.ID).exec(), '');
  equal(await client.getAll().count(), 0, 'nothing is written');
});

scenario('keep_alive_stream', 'Lease.LeaseKeepAlive', FAST, async ({ client }) => {
  const lease = client.lease(2);
  let answers = 0;
  lease.on('keepaliveSucceeded', () => (answers += 1));
  await lease.put('a').value('1');
  await sleep(4500);
  sure(answers >= 5 && !lease.revoked(), `kept alive ${answers} times`);
  equal(await client.get('a').string(), '1', 'the key, after longer than its time');
  equal((await lease.keepaliveOnce()).TTL, '2', 'once more');
  lease.release();
  await until(15_000, async () => !(await client.get('a').exists()), 'the key goes with its lease');
});

scenario('lost_lease', 'Lease.LeaseRevoke', FAST, async ({ client, root }) => {
  const lease = client.lease(2);
  const lost = new Promise(resolve => lease.on('lost', resolve));
  await root.leaseClient.leaseRevoke({ ID: await lease.grant() });
  const error = await within(15_000, lost, 'the loss');
  equal([error.name, lease.revoked()], ['Error', true], 'lost');
});

scenario('lease_lives_over_a_restart', 'Lease.LeaseKeepAlive', {}, async ({ client }) => {
  const lease = client.lease(5);
  await lease.put('a').value('1');
  let failed = 0;
  lease.on('keepaliveFailed', () => (failed += 1));
  await ask('restart');
  await sleep(7000);
  sure(!lease.revoked(), 'kept alive again by the client itself');
  equal(await client.get('a').string(), '1', 'the key');
  sure(failed > 0, 'the stream was cut');
  await lease.revoke();
});

// Watches

scenario('watch_a_prefix', 'Watch.Watch', FAST, async scene => {
  const watcher = await scene.client.watch().prefix('').create();
  const events = new Events(watcher);
  await scene.put('a', '1');
  await scene.put('b', '2');
  await scene.client.delete().key('a');
  equal(await events.short(3), ['put a 1', 'put b 2', 'delete a '], 'the events');
  await within(EVENT_LIMIT, watcher.cancel(), 'the cancel');
  await scene.put('c', '3');
  await sleep(300);
  equal(events.taken, [], 'nothing after the cancel');
});

scenario('watch_from_a_revision_with_previous_values', 'Watch.Watch', FAST, async scene => {
  const first = await scene.put('a', '1');
  await scene.put('a', '2');
  await scene.client.delete().key('a');
  const watcher = scene.client.watch().key('a').startRevision(`${first}`).withPreviousKV().watcher();
  const taken = await new Events(watcher).next(3);
  equal(taken.map(event => event[2]), ['1', '2', ''], 'values');
  equal(taken.map(event => event[4] && String(event[4].value)), [null, '1', '2'], 'previous values');
  equal(taken.map(event => Number(event[3])), [first, first + 1, first + 2], 'revisions');
});

scenario('watch_filters', 'Watch.Watch', FAST, async scene => {
  const puts = new Events(await scene.client.watch().prefix('').only('put').create());
  const deletes = new Events(await scene.client.watch().prefix('').only('delete').create());
  for (const key of ['a', 'b']) {
    await scene.put(key, '1');
    await scene.client.delete().key(key);
  }
  equal(await puts.short(2), ['put a 1', 'put b 1'], 'puts');
  equal(await deletes.short(2), ['delete a ', 'delete b '], 'deletes');
});

scenario('events_of_one_transaction_come_together', 'Watch.Watch', FAST, async scene => {
  const watcher = await scene.client.watch().prefix('').create();
  const response = new Promise(resolve => watcher.on('data', resolve));
  const puts = Array.from({ length: 50 }, (_, at) => scene.client.put(`${at}`).value(at));
  const { header } = await scene.client.if('none', 'Version', '==', 0).then(...puts).commit();
  const { events } = await within(EVENT_LIMIT, response, 'the response');
  equal(events.length, 50, 'events');
  sure(events.every(event => event.kv.mod_revision === header.revision), 'of one revision');
});

scenario('many_watches_on_one_stream', 'Watch.Watch', FAST, async scene => {
  const watchers = await Promise.all(Array.from({ length: 40 }, (_, at) => scene.client.watch().key(`${at}`).create()));
  const events = watchers.map(watcher => new Events(watcher));
  for (let at = 0; at < 40; at += 1) await scene.put(`${at}`, `${at}`);
  for (let at = 0; at < 40; at += 1) equal(await events[at].short(1), [`put ${at} ${at}`], `watch ${at}`);
  for (const watcher of watchers.slice(20)) await within(EVENT_LIMIT, watcher.cancel(), 'a cancel');
  await scene.put('1', 'again');
  equal(await events[1].short(1), ['put 1 again'], 'the others go on');
});

scenario('watch_compacted_revision', 'Watch.Watch', FAST, async scene => {
  const first = await scene.put('a', '1');
  await scene.put('a', '2');
  const last = await scene.put('a', '3');
  await scene.root.kv.compact({ revision: last });
  const watcher = scene.client.watch().key('a').startRevision(`${first}`).watcher();
  const error = await within(EVENT_LIMIT, new Promise(resolve => watcher.on('error', resolve)), 'the refusal');
  sure(error.message.includes('Watcher canceled'), `refused: ${error.message}`);
});

scenario('watch_progress', 'Watch.Watch', FAST, async scene => {
  const stream = await scene.root.watchClient.watch();
  const answers = [];
  stream.on('data', answer => answers.push(answer));
  stream.on('error', () => undefined);
  stream.write({ create_request: { key: Buffer.from(`${scene.prefix}a`), progress_notify: true } });
  await until(EVENT_LIMIT, () => answers[0]?.created, 'created');
  const revision = await scene.put('a', '1');
  await until(EVENT_LIMIT, () => answers[1]?.events.length === 1, 'the event');
  stream.write({ progress_request: {} });
  await until(EVENT_LIMIT, () => answers.length >= 3, 'progress');
  equal([answers[2].events.length, Number(answers[2].header.revision)], [0, revision], 'progress');
  stream.cancel();
});

scenario('watch_resumes_after_a_restart', 'Watch.Watch', FAST, async scene => {
  const watcher = await scene.client.watch().prefix('').create();
  const events = new Events(watcher);
  let cut = 0;
  watcher.on('disconnected', () => (cut += 1));
  for (let round = 0; round < 2; round += 1) {
    await scene.put('a', `${round}`);
    equal(await events.short(1), [`put a ${round}`], 'before');
    await ask('restart');
    await until(20_000, () => scene.put('b', `${round}`), 'it answers again');
    await until(EVENT_LIMIT, () => events.taken.length > 0, 'an event');
    await scene.put('c', 'last');
    const taken = await (async () => {
      await until(EVENT_LIMIT, () => events.taken.some(event => event[1] === 'c'), 'the last event');
      return events.taken.splice(0);
    })();
    const revisions = taken.map(event => Number(event[3]));
    sure(revisions.every((revision, at) => at === 0 || revision === revisions[at - 1] + 1), `no gap in ${revisions}`);
    sure(taken.every(event => event[1] !== 'a'), 'nothing twice');
  }
  sure(cut >= 2, 'the stream was cut');
});

scenario('calls_while_it_is_away', 'KV.Range', {}, async scene => {
  await scene.put('a', '1');
  await ask('kill');
  await raises(scene.client.get('a').string(), '');
  await ask('start');
  const value = await until(20_000, () => scene.client.get('a').string(), 'the same client goes on');
  equal(value, '1', 'the value');
});

scenario('reconnect_storm', 'KV.Range', FAST, async scene => {
  await scene.put('a', '1');
  const comeAndGo = async () => {
    for (let round = 0; round < 5; round += 1) {
      const client = scene.another();
      const watcher = await client.watch().key(`${scene.prefix}a`).create();
      watcher.on('disconnected', () => undefined);
      equal(await client.get(`${scene.prefix}a`).string(), '1', 'the value');
      await within(EVENT_LIMIT, watcher.cancel(), 'the cancel');
      client.close();
    }
  };
  await Promise.all(Array.from({ length: 20 }, comeAndGo));
  equal(await scene.client.get('a').string(), '1', 'it still answers');
});

// Locks and elections

scenario('locks', 'KV.Txn', FAST, async scene => {
  const [first, second] = [scene.client.lock('lock').ttl(10), scene.another().namespace(scene.prefix).lock('lock').ttl(10)];
  await first.acquire();
  sure((await raises(second.acquire(), '')) instanceof EtcdLockFailedError, 'the second does not get it');
  await first.release();
  await second.acquire();
  await second.release();
  equal(await scene.client.lock('lock').do(async () => 'done'), 'done', 'what is done under it');
  equal(await scene.client.getAll().count(), 0, 'nothing stays');
});

scenario('lock_excludes', 'KV.Txn', FAST, async scene => {
  let inside = 0;
  let most = 0;
  const work = async client => {
    for (let round = 0; round < 3; round += 1) {
      const lock = client.lock('lock').ttl(30);
      await until(60_000, () => lock.acquire(), 'the lock');
      inside += 1;
      most = Math.max(most, inside);
      await sleep(10);
      inside -= 1;
      await lock.release();
    }
  };
  await Promise.all(Array.from({ length: 4 }, () => work(scene.another().namespace(scene.prefix))));
  equal(most, 1, 'how many were inside at once');
});

scenario('elections', 'KV.Txn', FAST, async scene => {
  const observer = await scene.client.election('e').observe();
  const leaders = [];
  observer.on('change', leader => leaders.push(leader));
  const first = scene.client.election('e', 10).campaign('one');
  await within(EVENT_LIMIT, first.wait(), 'the first');
  equal(await scene.client.election('e').leader(), 'one', 'the leader');
  // The observer takes the last of the first candidates that it sees at once, so the second comes later.
  await until(EVENT_LIMIT, () => leaders.includes('one'), 'the observer sees the first');
  const second = scene.another().namespace(scene.prefix).election('e', 10).campaign('two');
  let elected = false;
  second.on('elected', () => (elected = true));
  await first.proclaim('uno');
  await until(EVENT_LIMIT, () => leaders.includes('uno'), 'the proclamation is seen');
  equal(elected, false, 'the second waits');
  await first.resign();
  await until(EVENT_LIMIT, () => elected && leaders.includes('two'), 'the second follows');
  sure((await raises(first.proclaim('never'), '')) instanceof NotCampaigningError, 'who resigned proclaims nothing');
  await second.resign();
  await observer.cancel();
});

// Maintenance and the cluster

scenario('compaction', 'KV.Compact', FAST, async scene => {
  const first = await scene.put('a', '1');
  const last = await scene.put('a', '2');
  await scene.root.kv.compact({ revision: last, physical: true });
  await raises(scene.client.get('a').revision(first).string(), 'mvcc: required revision has been compacted');
  await raises(scene.root.kv.compact({ revision: first }), 'mvcc: required revision has been compacted');
  await raises(scene.root.kv.compact({ revision: last + 1000 }), 'mvcc: required revision is a future revision');
  equal(await scene.client.get('a').string(), '2', 'the newest');
});

scenario('status', 'Maintenance.Status', FAST, async ({ root }) => {
  const status = await root.maintenance.status();
  sure(/^3\.\d+\.\d+$/.test(status.version), `the version ${status.version}`);
  sure(Number(status.dbSize) > 0 && Number(status.raftIndex) > 0, 'numbers');
  equal(status.leader, status.header.member_id, 'the leader');
});

scenario('members', 'Cluster.MemberList', FAST, async ({ root, endpoint }) => {
  const { members } = await root.cluster.memberList({});
  equal(members.map(member => [member.name, member.clientURLs]), [['judged', [`http://${endpoint}`]]], 'members');
});

scenario('defragment_and_hash', 'Maintenance.Defragment', FAST, async scene => {
  await scene.put('a', '1');
  await scene.root.maintenance.defragment();
  const first = (await scene.root.maintenance.hash()).hash;
  await scene.put('a', '2');
  await until(10_000, async () => (await scene.root.maintenance.hash()).hash !== first, 'another hash after a write');
});

scenario('alarms', 'Maintenance.Alarm', FAST, async scene => {
  const { maintenance } = scene.root;
  const { header } = await maintenance.status();
  const noSpace = { memberID: header.member_id, alarm: AlarmType.Nospace };
  try {
    await maintenance.alarm({ action: AlarmAction.Activate, ...noSpace });
    const { alarms } = await maintenance.alarm({ action: AlarmAction.Get });
    equal(alarms.map(({ alarm }) => alarm), ['Nospace'], 'in the list');
    // A client of its own: refused this way, this one stops calling for a while.
    await raises(scene.another().put(`${scene.prefix}a`).value('1').exec(), 'etcdserver: mvcc: database space exceeded');
  } finally {
    await maintenance.alarm({ action: AlarmAction.Deactivate, ...noSpace });
  }
  await scene.put('a', '1');
});

main(open);
