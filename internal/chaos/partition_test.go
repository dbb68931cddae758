package chaos

import (
	"testing"
	"time"
)

// networks cuts processes off from the brokers and the database, in both
// directions and in one, for longer than a session.
func networks(t *testing.T) {
	a := shared(t)
	type way struct {
		name string
		link *link
	}
	var ways []way
	edgeKafka, throughEdge := a.throughKafka()
	processorKafka, throughProcessor := a.throughKafka()
	storageKafka, throughStorage := a.throughKafka()
	processorDB, dbProcessor := a.throughPostgres()
	storageDB, dbStorage := a.throughPostgres()
	ways = append(ways,
		way{"processor and broker", processorKafka.link}, way{"edge and broker", edgeKafka.link},
		way{"storage and broker", storageKafka.link}, way{"processor and database", processorDB.link}, way{"storage and database", storageDB.link},
	)
	edges := []*process{a.launch("edge-1", edger, throughEdge), a.launch("edge-2", edger)}
	a.launch("processor-1", processor, throughProcessor, dbProcessor).await()
	a.launch("processor-2", processor).await()
	a.launch("storage", storer, throughStorage, dbStorage).await()
	l := newLoad(t, *seed, edges...)
	l.create()
	l.start()
	rng := source(5)
	for _, w := range ways {
		for i, direction := range []string{"both ways", "requests only", "answers only", "connections closed"} {
			l.succeed(20)
			switch i {
			case 0:
				w.link.cut(true, true)
			case 1:
				w.link.cut(true, false)
			case 2:
				w.link.cut(false, true)
			default:
				w.link.shut(true)
			}
			began := time.Now()
			l.succeed(30) // while it is cut
			meanwhile := time.Since(began)
			wait := session + time.Duration(rng.IntN(2000))*time.Millisecond - meanwhile
			if wait > 0 {
				<-time.After(wait)
			}
			w.link.heal()
			began = time.Now()
			l.succeed(30)
			t.Logf("%s, %s: operations went on after %v, and after the end within %v", w.name, direction,
				meanwhile.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
		}
	}
	l.stop()
	l.verify(a, 600, edges...)
}
