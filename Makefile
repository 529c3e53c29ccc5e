# make demo and make test are all that a new machine needs: each installs what is
# missing (by apt when root, else it says what to install).

GO     ?= go
BIN    := bin/keyferry
SEED   ?=
FUZZTIME ?= 30s

.PHONY: build demo test test-memory soak race lint fmt docs fuzz sim scenarios integration clients chaos kills bench bench-drain pgo screenshots tools-redis tools-chromium tools-nutcracker tools-clients tools-cc tools-etcd clean

# The profile in cmd/keyferry is for what is run: tests would only compile all twice for it.
export GOFLAGS += -pgo=off

build:
	$(GO) build -pgo=auto -o $(BIN) ./cmd/keyferry

# A new profile, after changes of the data plane; takes a minute.
PROFILE ?= cmd/keyferry/default.pgo
pgo: tools-redis build
	./$(BIN) bench profile --out $(PROFILE)

# With more gateways than one they share an etcd, and two of them are killed and frozen.
GATEWAYS ?= 1
demo: tools-redis build
	@[ "$(GATEWAYS)" = 1 ] || $(MAKE) --no-print-directory tools-etcd
	./$(BIN) demo --gateways $(GATEWAYS) $(DEMO)

# Everything but the long runs; the race detector is on where goroutines meet. What takes
# longest begins first. -v for the clients: where some can't be had, as without npm, one reads
# that they were not tested, and why; they run beside the others and are shown at the end.
# The time-out ends a hang: on two cores the longest package takes a tenth of it.
SLOW    := ./test/integration ./test/lesson ./test/chaos ./test/browser
TIMEOUT := -timeout 40m

# Built first, so that those which run at the same time do not all compile the same.
test: tools-redis tools-etcd tools-chromium tools-nutcracker tools-cc lint
	$(GO) build -race ./...
	@out=$$(mktemp); $(GO) test $(TIMEOUT) -count 1 -v ./test/clients >"$$out" 2>&1 & clients=$$!; \
	$(GO) test $(TIMEOUT) -p 1 -race ./proxy/... ./migrator/... ./slotlock ./router ./conf $$($(GO) list ./internal/...) & race=$$!; \
	$(GO) test $(TIMEOUT) -p 2 $(SLOW) $$($(GO) list ./... | grep -v '/test/\(clients\|integration\|lesson\|chaos\|browser\)$$'); failed=$$?; \
	$(GO) test $(TIMEOUT) -tags failpoints ./proxy/parking ./test/sim -run 'TestExplorerBitesParking|TestModelBites' || failed=1; \
	wait $$race || failed=1; wait $$clients || failed=1; cat "$$out"; rm -f "$$out"; exit $$failed

# make test, and what it took: time, processor time and peak memory of each test process. It
# fails when one takes more than 2 GB, or all together more than 4 GB.
test-memory:
	$(GO) build -o bin/measure ./test/measure
	./bin/measure $(MAKE) --no-print-directory test

# What is longer than in make test, not different: more rounds, other seeds. Hours.
soak: sim integration kills clients chaos

race: tools-redis tools-etcd tools-cc
	$(GO) test -timeout 30m -race ./...

lint:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags failpoints ./...
	$(GO) tool staticcheck ./...
	$(GO) test ./test/lint

fmt:
	gofmt -w .

# From the tables of commands and of verbs; tests fail when a page is out of date.
docs:
	$(GO) run ./internal/resp/gendocs > docs/commands.md.new
	mv docs/commands.md.new docs/commands.md
	$(GO) run ./internal/verb/gendocs > docs/admin.md.new
	mv docs/admin.md.new docs/admin.md

fuzz:
	$(GO) test ./internal/resp -run xxx -fuzz FuzzRequest -fuzztime $(FUZZTIME)
	$(GO) test ./internal/resp -run xxx -fuzz FuzzReply -fuzztime $(FUZZTIME)

# The explorer of the key-move protocol, long: 100,000 seeds.
sim:
	$(GO) test ./test/sim -timeout 30m -sim.seeds 100000

# Random scenarios of several clients, at the gateway and at a plain server. SEED= is the first of SEEDS.
SEEDS ?= 300
scenarios: tools-redis tools-cc
	$(GO) test -timeout 0 -count 1 ./test/integration -run 'TestScenarios' -scenario.seed $(or $(SEED),0) -scenario.seeds $(SEEDS)

integration: tools-redis tools-cc
	$(GO) test -v -timeout 60m -count 1 ./test/integration -soak -differential.runs 25 -scenario.seeds 100 -scans 50

# The clients that people use, a minute each while slots move back and forth: go-redis,
# redis-cli, redis-benchmark, ioredis and BullMQ, which npm fetches, redis-py, and the
# Prometheus exporter.
clients: tools-redis tools-clients tools-cc
	$(GO) test -v -timeout 60m -count 1 ./test/clients -clients.for 1m -clients.all

# Faults of every kind for TIME, histories checked. SEED= repeats the choices of a run.
TIME ?= 30m
chaos: tools-redis tools-cc
	$(GO) test -v -timeout 0 ./test/chaos -run TestChaos -chaos.seed $(or $(SEED),0) -chaos.time $(TIME)

# The kill tests again and again, with other seeds each time.
kills: tools-redis tools-cc
	$(GO) test -v -timeout 60m -count 5 ./test/integration -run 'TestKill|TestServer|TestSource|TestFull'

bench: tools-redis tools-nutcracker build
	./$(BIN) bench compare --full $(BENCH)

# Jobs of 1,000,000 keys beside a bare loop of DUMP, RESTORE, UNLINK.
bench-drain: tools-redis build
	./$(BIN) bench drain $(BENCH)

tools-redis:
	@command -v redis-server >/dev/null 2>&1 || $(MAKE) --no-print-directory install PKG=redis-server

# The tests start their own; the service that Debian's package starts is ended, as Redis's is.
tools-etcd:
	@command -v etcd >/dev/null 2>&1 || $(MAKE) --no-print-directory install PKG=etcd-server SERVICE=etcd

# Every page of the dashboard, light and dark, wide and on a phone, into docs/screenshots.
screenshots: tools-redis tools-chromium tools-cc
	$(GO) test ./test/browser -v -timeout 10m -count 1 -run TestPages -screenshots $(CURDIR)/docs/screenshots

# The race detector is linked by a C compiler.
tools-cc:
	@command -v $$($(GO) env CC) >/dev/null 2>&1 || $(MAKE) --no-print-directory install PKG="gcc libc6-dev"

tools-chromium:
	@command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || \
		$(MAKE) --no-print-directory install PKG=chromium

tools-nutcracker:
	@command -v nutcracker >/dev/null 2>&1 || $(MAKE) --no-print-directory install PKG=nutcracker

tools-clients:
	@{ command -v node && command -v npm; } >/dev/null 2>&1 || $(MAKE) --no-print-directory install PKG="nodejs npm"
	@python3 -c 'import redis' 2>/dev/null || /usr/bin/python3 -c 'import redis' 2>/dev/null || $(MAKE) --no-print-directory install PKG=python3-redis
	@command -v prometheus-redis-exporter >/dev/null 2>&1 || command -v redis_exporter >/dev/null 2>&1 || $(MAKE) --no-print-directory install PKG=prometheus-redis-exporter

.PHONY: install
install:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing $(PKG)"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PKG) redis-tools >/dev/null && \
		{ command -v systemctl >/dev/null 2>&1 && systemctl disable --now $(or $(SERVICE),$(PKG)) >/dev/null 2>&1 || true; }; \
	else echo "$(PKG) is missing. Install it: sudo apt-get install $(PKG)   (macOS: brew install redis)"; exit 1; fi

clean:
	rm -rf bin
