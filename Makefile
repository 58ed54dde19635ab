# hostmesh. The two commands to know are `make demo` and `make test`.

GO          ?= go
TAGS        := libvirt_dlopen
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
DNS_PARTS   := nameservers,dnsload

.PHONY: all deps build demo test race bench bench-dns sim soak prove balance databases databases-soak guest-cloud lint docs clean

all: build

deps: ## install the Debian packages that the tests need
	@packaging/deps.sh test

build: ## bin/hostmesh: one binary for boxes with and without libvirt; bin/hostdb, a link to it, is Flipkart's command line
	@packaging/deps.sh build
	$(GO) build -tags '$(TAGS)' -trimpath -ldflags '$(LDFLAGS)' -o bin/hostmesh ./cmd/hostmesh
	@ln -sf hostmesh bin/hostdb

demo: ## three agents on this machine: import, answer, lose one, get it back, a virtual machine there and back; as root also resolvers behind one address
	@packaging/deps.sh demo
	@$(MAKE) --no-print-directory build
	@$(GO) run -tags '$(TAGS)' ./integration/demo -hostmesh bin/hostmesh -inventory examples/inventory $(if $(KEEP),-keep)

test: ## everything: lint, both builds, all tests
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory lint build
	CGO_ENABLED=0 $(GO) build -tags nolibvirt -o /dev/null ./cmd/hostmesh
	HOSTMESH_BINARY=$(CURDIR)/bin/hostmesh $(GO) test -tags '$(TAGS)' -timeout 25m ./...

race: ## the packages where goroutines meet, under the race detector
	@packaging/deps.sh test
	$(GO) test -race -tags '$(TAGS)' -timeout 20m ./hostdb/... ./mesh/... ./dnsd/... ./lbd/... ./vmd/... ./node/...

bench: ## the table of budgets; BENCH=short for a quick look, ONLY=takeover,commit,duties for some rows (lbchange, lbforward: as root)
	@packaging/deps.sh bench
	@$(MAKE) --no-print-directory build
	@$(GO) run -tags '$(TAGS)' ./integration/bench -hostmesh bin/hostmesh $(if $(filter short,$(BENCH)),-short) $(if $(ONLY),-only $(ONLY))

bench-dns: ## what a DNS answer costs, beside NSD, Knot, CoreDNS and a bare echo, and what a load loses; BENCH=short, ONLY=dnsload
	@packaging/deps.sh bench
	@$(MAKE) --no-print-directory build
	@$(GO) run -tags '$(TAGS)' ./integration/bench -hostmesh bin/hostmesh -only '$(if $(ONLY),$(ONLY),$(DNS_PARTS))' $(if $(filter short,$(BENCH)),-short)

sim: ## up to 1,000 agents in one process and virtual time: tables and plots of docs/simulation.md; SIM='-short -agents 100'
	@$(GO) run -tags '$(TAGS)' ./integration/sim $(SIM)

soak: ## break five agents for an hour while they are written to, and see whether they keep their word; FOR=10m, SEED=N; needs root
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory build
	@$(GO) run -tags '$(TAGS)' ./integration/soak -hostmesh bin/hostmesh -for $(or $(FOR),1h) $(if $(SEED),-seed $(SEED))

prove: ## break processes for 20 minutes, and see that a duty never has two holders and that records are linearizable; FOR=5m, SEED=N; needs root
	@packaging/deps.sh test
	@$(GO) run -tags '$(TAGS)' ./integration/dutyproof -for $(or $(FOR),20m) $(if $(SEED),-seed $(SEED))

balance: ## 20 runs of each fault of five agents that balance, with the time without service (make test has one of each); RUNS=3, ONLY='kill|cut'; needs root
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory build
	HOSTMESH_BINARY=$(CURDIR)/bin/hostmesh HOSTMESH_TEST_LB_RUNS=$(or $(RUNS),20) HOSTMESH_TEST_LB_ONLY='$(ONLY)' $(GO) test -tags '$(TAGS)' -timeout 0 -count 1 -v ./integration -run TestBalancedUnderFaults

databases: ## 20 runs of each fault of database clusters of three and of five, partitions, agents killed after each step, members that come and go, an application across ten changes (make test has the quick ones once); RUNS=3, ONLY='kill|link', MEMBERS=5, ONLY=clone450 for a copy of 450 MB; needs root
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory build
	HOSTMESH_BINARY=$(CURDIR)/bin/hostmesh HOSTMESH_TEST_DB_RUNS=$(or $(RUNS),20) HOSTMESH_TEST_DB_ONLY='$(ONLY)' $(GO) test -tags '$(TAGS)' -timeout 0 -count 1 -parallel 1 -v ./integration -run '$(if $(filter 5,$(MEMBERS)),TestDatabasesOfFive,TestDatabases($$|Of|Without))'

databases-soak: ## break a database cluster by chance for an hour while rows are written through its address, and see whether it keeps its word (make test has two minutes); FOR=10m, SEED=N, RATE=1000, OUT=bin, ONLY='kill|link'; needs root
	@packaging/deps.sh test
	@$(MAKE) --no-print-directory build
	HOSTMESH_BINARY=$(CURDIR)/bin/hostmesh HOSTMESH_TEST_DB_SOAK=$(or $(FOR),1h) HOSTMESH_TEST_DB_SOAK_SEED='$(SEED)' HOSTMESH_TEST_DB_SOAK_RATE='$(RATE)' HOSTMESH_TEST_DB_SOAK_ONLY='$(ONLY)' HOSTMESH_TEST_DB_SOAK_OUT=$(abspath $(or $(OUT),bin)) $(GO) test -tags '$(TAGS)' -timeout 0 -count 1 -v ./integration -run TestDatabasesUnderRandomFaults

guest-cloud: ## a machine of a cloud image that starts by its own loader, with real cloud-init, twice, the second time with a larger disk; AGAIN=1 makes the image anew; needs root
	@packaging/deps.sh cloud
	@$(MAKE) --no-print-directory build
	HOSTMESH_BINARY=$(CURDIR)/bin/hostmesh HOSTMESH_TEST_CLOUD=$(if $(AGAIN),anew,twice) $(GO) test -tags '$(TAGS)' -timeout 0 -count 1 -v ./integration -run TestVirtualMachineFromItsOwnDisk

lint: ## gofmt, go vet for both builds, staticcheck
	@packaging/deps.sh build
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "gofmt differs: $$bad"; exit 1; fi
	$(GO) vet -tags '$(TAGS)' ./...
	CGO_ENABLED=0 $(GO) vet -tags nolibvirt ./...
	$(GO) run $(STATICCHECK) -tags '$(TAGS)' ./...

docs: ## make the generated pages anew
	$(GO) test -tags '$(TAGS)' ./hostdb/section -update

clean:
	rm -rf bin dist
