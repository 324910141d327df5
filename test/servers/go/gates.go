package main

import "sync"

// gates lets one request wait, by key, for what another brings about: no test has to sleep.
type gates struct {
	mu  sync.Mutex
	all map[string]*gate
}

type gate struct {
	opened chan struct{}
	once   sync.Once
	value  string
}

func newGates() *gates { return &gates{all: map[string]*gate{}} }

func (g *gates) get(key string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all[key] == nil {
		g.all[key] = &gate{opened: make(chan struct{})}
	}
	return g.all[key]
}

func (g *gates) wait(key string) string {
	gate := g.get(key)
	<-gate.opened
	return gate.value
}

func (g *gates) open(key, value string) {
	gate := g.get(key)
	gate.once.Do(func() {
		gate.value = value
		close(gate.opened)
	})
}
