// Runs scenarios and tells how each went; what is spoken with the suite is described in ../python/harness.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const scenarioLimit = 90 * time.Second

type scenario struct {
	name, method string
	fast         bool
	play         func(*scene)
}

// scene is one client and keys of its own for one scenario.
type scene struct {
	endpoint, prefix string
	ctx              context.Context
	client           *clientv3.Client
	clients          []*clientv3.Client
}

// failure ends a scenario from within.
type failure struct{ text string }

func fail(format string, args ...interface{}) {
	_, _, line, _ := runtime.Caller(2)
	panic(failure{fmt.Sprintf(format, args...) + fmt.Sprintf(" (line %d)", line)})
}

func sure(truth bool, what string, args ...interface{}) {
	if !truth {
		fail(what, args...)
	}
}

func equal(seen, expected interface{}, what string) {
	a, b := fmt.Sprintf("%v", seen), fmt.Sprintf("%v", expected)
	if a != b {
		fail("%s: %.300s instead of %.300s", what, a, b)
	}
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

// refused is sure that the error has this text.
func refused(err error, text string) {
	if err == nil || !strings.Contains(err.Error(), text) {
		fail("the error: %v instead of %s", err, text)
	}
}

// until asks until there is a true answer.
func until(limit time.Duration, what string, condition func() bool) {
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			fail("within %v not: %s", limit, what)
		}
	}
}

func tell(line interface{}) {
	bytes, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(bytes))
}

var input = bufio.NewReader(os.Stdin)

// ask has the suite kill, start or restart the server.
func ask(what string) {
	tell(map[string]string{"ask": what})
	_, err := input.ReadString('\n')
	check(err)
}

func (s *scene) another() *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.endpoint}, DialTimeout: 10 * time.Second})
	check(err)
	s.clients = append(s.clients, client)
	return client
}

// outcome plays on a goroutine of its own, so that what hangs is told as a failure like any other.
func outcome(one scenario, endpoint string) string {
	ended := make(chan string, 1)
	ctx, cancel := context.WithTimeout(context.Background(), scenarioLimit-5*time.Second)
	defer cancel()
	go func() {
		s := &scene{endpoint: endpoint, prefix: "go-" + one.name + "/", ctx: ctx}
		defer func() {
			told := ""
			if thrown := recover(); thrown != nil {
				known, ok := thrown.(failure)
				if told = known.text; !ok {
					told = fmt.Sprint(thrown)
				}
			}
			for _, client := range s.clients {
				client.Close()
			}
			ended <- told
		}()
		s.client = s.another()
		_, err := s.client.Delete(ctx, s.prefix, clientv3.WithPrefix())
		check(err)
		one.play(s)
	}()
	select {
	case told := <-ended:
		return told
	case <-time.After(scenarioLimit):
		return "did not end in time"
	}
}

func main() {
	if os.Args[1] == "list" {
		for _, one := range scenarios {
			tell(map[string]interface{}{"scenario": one.name, "method": one.method, "fast": one.fast})
		}
		return
	}
	for _, name := range os.Args[3:] {
		for _, one := range scenarios {
			if one.name == name {
				told := outcome(one, os.Args[2])
				tell(map[string]interface{}{"scenario": name, "ok": told == "", "error": told})
			}
		}
	}
}
