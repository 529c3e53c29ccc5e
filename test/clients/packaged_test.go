package clients

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyferry/internal/testredis"
)

// TestRedisPy: the Redis and the RedisCluster of redis-py.
func TestRedisPy(t *testing.T) {
	python := ""
	for _, p := range []string{"python3", "/usr/bin/python3"} { // the system's, which has its packages
		if exec.Command(p, "-c", "import redis.cluster").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		notTested(t, "redis-py: no python3 that has it (apt-get install python3-redis)")
	}
	r := newRig(t)
	ballast(t, r, 5000)
	stop := r.KeepMoving()
	t.Logf("%s", runScript(t, r, "python", python, "redispy.py"))
	t.Logf("%d migrations", stop())
	r.PlacesRight()
}

// TestExporter: the Prometheus exporter finds what it looks for, at each scrape.
func TestExporter(t *testing.T) {
	program := ""
	for _, p := range []string{"prometheus-redis-exporter", "redis_exporter"} {
		if path, err := exec.LookPath(p); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		notTested(t, "the Prometheus exporter (apt-get install prometheus-redis-exporter)")
	}
	r := newRig(t)
	ballast(t, r, 5000)
	port, err := testredis.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	web := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(program, "-redis.addr", "redis://"+r.Listen, "-web.listen-address", web, "-check-single-keys", "ballast:1")
	exporter, err := testredis.StartChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = exporter.Kill() }()
	looked := regexp.MustCompile(`(?m)^redis_(up|exporter_last|db_keys|connected_clients|key_size|memory_used|uptime|instance_info|commands_total\{cmd="set").*$`)
	scrape := func() string {
		resp, err := http.Get("http://" + web + "/metrics")
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return strings.Join(looked.FindAllString(string(body), -1), "\n") + "\n"
	}
	r.Await("the exporter", func() bool { return strings.Contains(scrape(), "redis_up 1") })
	stop := r.KeepMoving()
	scrapes := 0
	for end := time.Now().Add(*runFor / 3); (scrapes == 0 || time.Now().Before(end)) && !t.Failed(); scrapes++ {
		demand(t, "a scrape", scrape(), `(?m)^redis_up 1$`, `(?m)^redis_exporter_last_scrape_error\{err=""\} 0$`, `(?m)^redis_db_keys\{db="db0"\} \d{4,5}$`,
			`(?m)^redis_connected_clients [1-9]`, `(?m)^redis_commands_total\{cmd="set"\} 5000$`, `(?m)^redis_key_size\{.*key="ballast:1"\} 1$`,
			`(?m)^redis_memory_used_bytes [1-9]`, `(?m)^redis_uptime_in_seconds `, `(?m)^redis_instance_info\{.*redis_version="7`)
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("%d scrapes, %d migrations", scrapes, stop())
}
