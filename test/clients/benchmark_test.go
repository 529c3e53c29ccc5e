package clients

import (
	"encoding/csv"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchmarkTests are what redis-benchmark measures, as its CSV names them.
var benchmarkTests = []string{"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP",
	"ZADD", "ZPOPMIN", "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
	"LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)"}

// TestRedisBenchmark: all its tests in all its modes. It prints an error of the server but
// goes on, so what it prints is looked at.
func TestRedisBenchmark(t *testing.T) {
	r := newRig(t)
	ballast(t, r, 5000)
	modes := map[string]string{
		"plain":             "-n 400 -c 20",
		"random keys":       "-n 400 -c 20 -r 100000",
		"pipelines":         "-n 1600 -c 20 -P 32 -r 1000",
		"threads":           "-n 800 -c 20 --threads 2 -P 4 -r 1000",
		"RESP3":             "-n 800 -c 20 -3 -P 8 -r 1000",
		"tracking":          "-n 400 -c 10 -3 --enable-tracking -r 1000",
		"reconnecting":      "-n 150 -c 10 -k 0",
		"large values":      "-n 100 -c 10 -d 1500 -r 50",
		"database 3":        "-n 400 -c 20 --dbnum 3 -r 1000",
		"cluster":           "-n 400 -c 20 --cluster -r 1000",
		"cluster pipelined": "-n 1600 -c 20 --cluster -P 16 --threads 2 -r 1000",
	}
	stop := r.KeepMoving()
	rounds := 0
	for end := time.Now().Add(*runFor); (rounds == 0 || time.Now().Before(end)) && !t.Failed(); rounds++ {
		for name, args := range modes {
			t.Run(name, func(t *testing.T) {
				benchmark(t, run(t, 2*cliBound, "", "redis-benchmark", append(append(address(r), "--csv"), strings.Fields(args)...)...))
			})
		}
	}
	t.Logf("%d rounds, %d migrations", rounds, stop())
	r.PlacesRight()
}

// benchmark demands a rate for each test, and no word that is no CSV.
func benchmark(t *testing.T, out string) {
	t.Helper()
	rates := map[string]float64{}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, `"`) {
			if line != "" && !harmless(line) {
				t.Errorf("redis-benchmark says %q", line)
			}
			continue
		}
		fields, err := csv.NewReader(strings.NewReader(line)).Read()
		if err != nil || len(fields) < 2 {
			t.Errorf("%q: %v", line, err)
			continue
		}
		rates[fields[0]], _ = strconv.ParseFloat(fields[1], 64)
	}
	for _, name := range benchmarkTests {
		if rates[name] <= 0 {
			t.Errorf("%s: no rate", name)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}

// harmless is what is said before the tests begin: about the nodes, and about -k 0.
func harmless(line string) bool {
	for _, p := range []string{"Cluster has ", "Master ", "WARNING: Keepalive disabled."} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}
