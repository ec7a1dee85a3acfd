# FastFace grid harness. `make help` lists the targets.
#
#   make                 the four programs into build/bin/
#   make SANITIZE=1      with ASan + UBSan, into build/asan/
#   make CC=clang B=dir  another compiler, another build folder
.DEFAULT_GOAL := all
SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules

CC ?= gcc
SANITIZE ?= 0
FUZZ ?= 0
WERROR ?= 0
DEBUG ?= 0
V ?= 0
PREFIX ?= /usr/local
B ?= build
ifeq ($(SANITIZE),1)
override B := $(B)/asan
endif
ifeq ($(FUZZ),1)
override B := $(B)/fuzz
endif

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2))

# The packages, as Debian 12 and Ubuntu 24.04 name them.
BUILD_PACKAGES = $(if $(filter 1,$(CUDA)),g++) gcc make pkg-config libyaml-dev libhdf5-dev libturbojpeg0-dev libpng-dev zlib1g-dev \
	libdnnl-dev libcairo2-dev libmd-dev fonts-dejavu-core libcjson-dev libonnx-dev \
	libprotobuf-c-dev protobuf-c-compiler
TEST_PACKAGES := libcriterion-dev hdf5-tools procps

PKGS := yaml-0.1 hdf5 libturbojpeg libpng zlib cairo freetype2 libmd libcjson libprotobuf-c
# Asked for only when something is built: a bare machine has no pkg-config yet.
ifneq ($(filter-out deps deps-test help clean demo test,$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(filter-out hdf5,$(PKGS)) 2>/dev/null) \
	$(shell pkg-config --libs-only-L hdf5 2>/dev/null) -lhdf5_hl -lhdf5
endif

# -Wshadow, -Wstrict-prototypes: mistakes that compile; -Wvla: stack use must be known.
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wpointer-arith -Wformat=2 -Wno-format-nonliteral
ifeq ($(WERROR),1)
WARN += -Werror
endif
# -ffp-contract=off: the same source gives the same bits under gcc and clang.
OPT := $(if $(filter 1,$(DEBUG)),-O0,-O2) -g -ffp-contract=off
ARCH ?= -march=x86-64-v2
ifeq ($(SANITIZE),1)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
ifeq ($(FUZZ),1)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
endif
# The CUDA backend: CUDA=0 leaves it out, CUDA=1 fails without nvcc; by itself it is built
# where nvcc is found. libff_cuda.so is loaded at run time: the programs never link CUDA.
CUDA_HOME ?= $(or $(patsubst %/bin/nvcc,%,$(shell command -v nvcc 2>/dev/null)),/usr/local/cuda)
ifeq ($(wildcard $(CUDA_HOME)/bin/nvcc),)
CUDA ?= 0
else
CUDA ?= 1
endif
NVCC := $(CUDA_HOME)/bin/nvcc
# One machine code a target, and PTX of the last for what comes after.
CUDA_TARGETS ?= 75 80 86 89 90
CUDA_LAST := $(lastword $(CUDA_TARGETS))
CUDA_CODE = $(foreach t,$(CUDA_TARGETS),-gencode arch=compute_$(t),code=sm_$(t)) \
	-gencode arch=compute_$(CUDA_LAST),code=compute_$(CUDA_LAST)
NVCC_FLAGS = -std=c++17 -O3 -lineinfo $(CUDA_CODE) \
	-Icommon -Itrainer -D_GNU_SOURCE -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
	$(if $(filter 1,$(WERROR)),-Werror all-warnings -Xcompiler -Werror)

# The commit that programs record; rewritten, and with it cli.o, only when it is another.
GIT_COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo unknown)
CPPFLAGS += -D_GNU_SOURCE -iquote common -iquote trainer -iquote trainer/cuda -iquote trainer/data -iquote eval -iquote harness -iquote $(B)/gen $(PKG_CFLAGS)
CFLAGS += -std=c11 $(OPT) $(WARN) -fopenmp -pthread
LDLIBS += $(PKG_LIBS) -ldnnl -ldl -lm

src = $(wildcard $(1)/*.c)
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
COMMON := $(call src,common)
# Not DATA: that is the folder given to lfw-reference.
DATA_SOURCES := $(filter-out trainer/data/ff_data.c,$(call src,trainer/data))
TRAINER := $(filter-out trainer/ff_train.c,$(call src,trainer)) $(call src,trainer/ref) \
	$(call src,trainer/onednn) trainer/cuda/cuda_choices.c
EVAL := $(filter-out eval/ff_eval.c,$(call src,eval))
HARNESS := $(filter-out harness/ff_grid.c,$(call src,harness))

PROGRAMS := $(addprefix $(B)/bin/,ff-grid ff-train ff-eval ff-data)
CUDA_LIBRARY := $(if $(filter 1,$(CUDA)),$(if $(filter 00,$(SANITIZE)$(FUZZ)),$(B)/lib/libff_cuda.so))
BUILT := built for the CPU (oneDNN)
ifneq ($(CUDA_LIBRARY),)
BUILT += and for CUDA (sm $(CUDA_TARGETS))
else ifeq ($(CUDA),0)
BUILT += alone: no nvcc in $(CUDA_HOME)/bin
endif
all: $(PROGRAMS) $(CUDA_LIBRARY) ## the four programs into build/bin/, and with CUDA build/lib/libff_cuda.so
	@echo "$(BUILT)"

# onednn_rows.c once for each instruction set; chosen at run time.
ROWS := $(B)/obj/trainer/onednn/onednn_rows.o
ifeq ($(shell uname -m),x86_64)
ROWS += $(B)/obj/trainer/onednn/onednn_rows_v3.o $(B)/obj/trainer/onednn/onednn_rows_v4.o
endif
$(B)/obj/trainer/onednn/onednn_rows%.o: trainer/onednn/onednn_rows.c
	$(call say,CC,"$< $*")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(if $(filter 0,$(SANITIZE)),-O3) -march=x86-64$(subst _,-,$*) \
		-DFF_ROWS=onednn_rows$* -MMD -MP -c -o $@ $<
$(B)/obj/trainer/onednn/onednn_rows.o: trainer/onednn/onednn_rows.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(if $(filter 0,$(SANITIZE)),-O3) $(ARCH) -MMD -MP -c -o $@ $<

# ONNX's schema, compiled; generated code keeps its own warnings.
ONNX_PROTO ?= /usr/include/onnx/onnx.proto
$(B)/gen/onnx.pb-c.c: $(ONNX_PROTO)
	$(call say,GEN,$@)
	@mkdir -p $(@D)
	$(Q)protoc-c -I $(<D) --c_out=$(@D) $<
$(B)/obj/onnx.pb-c.o: $(B)/gen/onnx.pb-c.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -w $(ARCH) -c -o $@ $<
$(B)/obj/trainer/onnx_file.o $(B)/obj/tests/unit/test_onnx_file.o: $(B)/gen/onnx.pb-c.c

$(B)/libffcommon.a: $(call obj,$(COMMON))
$(B)/libffdata.a: $(call obj,$(DATA_SOURCES))
$(B)/libfftrainer.a: $(sort $(call obj,$(TRAINER)) $(ROWS)) $(B)/obj/onnx.pb-c.o
$(B)/libffeval.a: $(call obj,$(EVAL))
$(B)/libffharness.a: $(call obj,$(HARNESS))
$(B)/libff%.a:
	$(call say,AR,$@)
	@mkdir -p $(@D); rm -f $@
	$(Q)ar rcs $@ $^

$(B)/bin/ff-grid: $(call obj,harness/ff_grid.c) $(B)/libffharness.a $(B)/libffcommon.a
$(B)/bin/ff-train: $(call obj,trainer/ff_train.c) $(B)/libfftrainer.a $(B)/libffdata.a $(B)/libffcommon.a
$(B)/bin/ff-eval: $(call obj,eval/ff_eval.c) $(B)/libffeval.a $(B)/libfftrainer.a $(B)/libffdata.a $(B)/libffcommon.a
$(B)/bin/ff-data: $(call obj,trainer/data/ff_data.c) $(B)/libffdata.a $(B)/libffcommon.a
# All of common/, visible to libff_cuda.so.
EXPORTS := $(if $(CUDA_LIBRARY),-rdynamic)
linked = $(filter-out %/libffcommon.a,$(1)) $(if $(EXPORTS),-Wl$(comma)--whole-archive $(filter %/libffcommon.a,$(1)) -Wl$(comma)--no-whole-archive,$(filter %/libffcommon.a,$(1)))
comma := ,
$(B)/bin/%:
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(ARCH) $(LDFLAGS) $(EXPORTS) -o $@ $(call linked,$^) $(LDLIBS)

# -- the CUDA backend --

CUDA_SRC := $(call src,trainer/cuda) $(wildcard trainer/cuda/*.cu)
CUDA_OBJ := $(patsubst %,$(B)/obj/%.o,$(CUDA_SRC))
$(B)/obj/trainer/cuda/%.cu.o: trainer/cuda/%.cu
	$(call say,NVCC,$<)
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<
# Instructions that no other target has, later ones included.
$(B)/obj/trainer/cuda/cuda_conv90.cu.o: CUDA_CODE = -gencode arch=compute_90a,code=sm_90a
$(B)/obj/trainer/cuda/%.c.o: trainer/cuda/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -isystem $(CUDA_HOME)/include -DCUDNN_WARN_DEPRECATED $(CFLAGS) -fPIC -fvisibility=hidden \
		-MMD -MP -c -o $@ $<
# Errors, log and files are the program's own: its symbols, found when this is loaded.
$(B)/lib/libff_cuda.so: $(CUDA_OBJ)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) -shared -o $@ $^ -L$(CUDA_HOME)/lib64 -lcudart_static -lcublasLt -lcudnn -lrt -ldl -pthread \
		-Wl,-rpath,'$$ORIGIN:$(CUDA_HOME)/lib64' -Wl,--exclude-libs,ALL -Wl,-soname,libff_cuda.so

# The same sources on a CPU, for tests: kernels as C++ (tests/emulated/emulator.h), host
# code as it is, cuDNN and cuBLASLt by loops.
EMULATED_SRC := $(filter-out trainer/cuda/cuda_dnn%.c trainer/cuda/cuda_gemm.c,$(CUDA_SRC)) \
	$(wildcard tests/emulated/*.cpp) $(wildcard tests/emulated/*.c)
EMULATED_OBJ := $(patsubst %,$(B)/obj/emulated/%.o,$(EMULATED_SRC))
EMULATED_CXX := -std=c++17 $(filter-out -Wstrict-prototypes -Wmissing-prototypes,$(OPT) $(WARN)) -Wno-unknown-pragmas -Wno-psabi \
	-DFF_CUDA_EMULATED -isystem $(CUDA_HOME)/include -iquote tests/emulated -iquote trainer/cuda
$(B)/obj/emulated/%.cu.o: %.cu
	$(call say,CXX,"$< emulated")
	@mkdir -p $(@D)
	$(Q)$(CXX) -x c++ $(CPPFLAGS) $(EMULATED_CXX) -MMD -MP -c -o $@ $<
$(B)/obj/emulated/%.cpp.o: %.cpp
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(EMULATED_CXX) -MMD -MP -c -o $@ $<
$(B)/obj/emulated/%.c.o: %.c
	$(call say,CC,"$< emulated")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -isystem $(CUDA_HOME)/include $(CFLAGS) $(ARCH) -MMD -MP -c -o $@ $<
$(B)/libffemulated.a: $(EMULATED_OBJ)

$(B)/obj/common/cli.o: CPPFLAGS += -DFF_GIT_COMMIT='"$(GIT_COMMIT)"'
$(B)/obj/common/cli.o: $(B)/obj/git_commit
$(B)/obj/git_commit: FORCE
	@mkdir -p $(@D)
	@echo $(GIT_COMMIT) | cmp -s - $@ || echo $(GIT_COMMIT) > $@
FORCE:
$(B)/obj/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(ARCH) -MMD -MP -c -o $@ $<

# One program a test file, linked with every library; oneDNN objects included.
TEST_SRC := $(call src,tests/unit) $(call src,tests/ops)
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SRC))
ALL_LIBS := $(foreach l,harness eval trainer data common,$(B)/libff$(l).a)
$(B)/tests/%: $(B)/obj/tests/%.o $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(EXPORTS) -o $@ $(call linked,$^) -lcriterion $(LDLIBS)

# tests/cuda/test_*.c twice: on the emulator, and against libff_cuda.so and a GPU.
CUDA_TEST_SRC := $(call src,tests/cuda)
CUDA_TESTS := $(if $(filter 1,$(CUDA)),$(patsubst tests/cuda/%.c,$(B)/tests/emulated/%,$(CUDA_TEST_SRC)) \
	$(if $(CUDA_LIBRARY),$(patsubst tests/cuda/%.c,$(B)/tests/cuda/%,$(CUDA_TEST_SRC))))
$(B)/obj/tests/emulated/%.o: tests/cuda/%.c
	$(call say,CC,"$< emulated")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -iquote tests/ops -iquote tests/unit -DFF_CUDA_EMULATED $(CFLAGS) $(ARCH) -MMD -MP -c -o $@ $<
$(B)/obj/tests/cuda/%.o: CPPFLAGS += -iquote tests/ops -iquote tests/unit
$(B)/tests/emulated/%: $(B)/obj/tests/emulated/%.o $(B)/libffemulated.a $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(filter-out -std=c11,$(CFLAGS)) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lcriterion $(LDLIBS)

# The programs on the emulated backend, in a folder of their own, where ff-grid finds them.
EMULATED_PROGRAMS := $(if $(filter 1,$(CUDA)),$(addprefix $(B)/emulated/,ff-grid ff-data ff-train ff-eval))
$(B)/emulated/ff-grid $(B)/emulated/ff-data: $(B)/emulated/%: $(B)/bin/%
	@mkdir -p $(@D); cp $< $@
$(B)/emulated/ff-train: $(call obj,trainer/ff_train.c)
$(B)/emulated/ff-eval: $(call obj,eval/ff_eval.c)
$(B)/emulated/%: $(B)/libffemulated.a $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(filter-out -std=c11,$(CFLAGS)) $(LDFLAGS) -Wl,-u,ff_cuda_load -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)

# cuDNN's plans without a GPU.
DNN_TESTS := $(if $(filter 1,$(CUDA)),$(patsubst tests/%.c,$(B)/tests/%,$(call src,tests/dnn)))
$(B)/obj/tests/dnn/%.o: CPPFLAGS += -isystem $(CUDA_HOME)/include
$(B)/tests/dnn/%: $(B)/obj/tests/dnn/%.o $(patsubst %,$(B)/obj/%.o,$(wildcard trainer/cuda/cuda_dnn*.c)) $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcriterion -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 \
		-lcudnn -lcudart $(LDLIBS)

BENCHES := $(patsubst tests/%.c,$(B)/tests/%,$(call src,tests/bench))
$(B)/tests/bench/%: $(B)/obj/tests/bench/%.o $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(EXPORTS) -o $@ $(call linked,$^) $(LDLIBS)

# A fuzz target with a main that replays files; with FUZZ=1 with libFuzzer's.
REPLAYS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay_main.o $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(ALL_LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)
fuzzers: $(FUZZERS)

tests-build: $(PROGRAMS) $(CUDA_LIBRARY) $(TESTS) $(REPLAYS) $(DNN_TESTS) $(CUDA_TESTS) $(EMULATED_PROGRAMS)

deps: ## installs what is missing (prints it; sudo only if not root)
	@bash tests/tools/install_packages.sh $(BUILD_PACKAGES)
deps-test: ## the same, with what the tests need
	@bash tests/tools/install_packages.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)

DEMO := results/demo-faces
demo: deps ## a whole sweep on synthetic faces on the CPU: 3 x 3 cells, a few minutes
	@$(MAKE) --no-print-directory all
	$(B)/bin/ff-data synth --out $(DEMO) $(shell sed -n 's/^# synth: //p' grids/demo.yaml)
	$(B)/bin/ff-grid grids/demo.yaml

test: deps-test ## every test: check, then whole sweeps through the real programs
	@$(MAKE) --no-print-directory tests-build
	@bash tests/run.sh $(B) unit ops $(if $(filter 1,$(CUDA)),dnn emulated) cli fuzz pipeline

check: tests-build ## unit, op and command-line tests and the fuzz corpus alone
	@bash tests/run.sh $(B) unit ops $(if $(filter 1,$(CUDA)),dnn emulated) cli fuzz

fuzz: ## the fuzz targets into build/fuzz/ (clang, libFuzzer, sanitizers); see tests/fuzz/README.md
	@$(MAKE) --no-print-directory CC=clang FUZZ=1 fuzzers

bench: all $(BENCHES) ## training step against PyTorch, scheduler cost (needs python3-torch)
	@bash tests/bench/run.sh $(B)

bench-loader: $(B)/tests/bench/bench_loader ## images a second of the loader, one worker
	@$< $(B)/bench-faces

bench-shuffle: $(B)/tests/bench/bench_loader $(B)/tests/bench/bench_shuffle ## DIR=folder: a set that is not in memory, with and without shuffle_block
	@test -e $(B)/bench-faces/train.rec || $< $(B)/bench-faces >/dev/null
	@$(B)/tests/bench/bench_shuffle $(B)/bench-faces "$(DIR)"

bench-ijb: all $(B)/tests/bench/make_ijb_problem ## DIR=folder: IJB-C's size from stored features, against Python
	@bash tests/bench/ijb.sh "$(DIR)" "$(B)"

lfw-reference: all $(B)/tests/bench/lfw_reference ## DATA=dir: ff-eval against reference scores in IJB-C format
	@bash tests/bench/lfw_reference.sh "$(DATA)" "$(B)"

install: all ## into $(DESTDIR)$(PREFIX): the four programs, the grids, the README
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/fastface/grids
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	$(if $(CUDA_LIBRARY),install -D -m 755 $(CUDA_LIBRARY) $(DESTDIR)$(PREFIX)/lib/libff_cuda.so)
	install -m 644 grids/*.yaml $(DESTDIR)$(PREFIX)/share/fastface/grids
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/fastface

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@echo; echo "Switches: CC=clang  B=build-folder  DEBUG=1  SANITIZE=1  WERROR=1  V=1  PREFIX=  DESTDIR="

clean: ## removes the build folder
	rm -rf $(B)

# -- for a machine with a GPU: tests, benchmark, a bundle to take there --

# What of trainer/cuda/ knows nothing of CUDA is tested on every machine.
CUDA_PLAIN := cuda_lease cuda_nvml
$(foreach m,$(CUDA_PLAIN),$(eval $(B)/tests/unit/test_$(m): $(B)/obj/trainer/cuda/$(m).o))

GPU_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(call src,tests/cuda))

gpu-check: all $(GPU_TESTS) ## every test of the GPU, on a machine with one; a skipped test fails
	@bash tests/tools/gpu_check.sh $(B)

gpu-bench: all $(B)/tests/bench/bench_train ## NET=r50 CLASSES=93431 HEAD=fp16: a case against PyTorch on a GPU
	@bash tests/bench/gpu_bench.sh $(B)

bundle: all $(B)/tests/bench/bench_train $(GPU_TESTS) ## a folder and .tar.xz that run where nothing is installed
	@bash tests/tools/bundle.sh $(B)

bundle-check: bundle ## the bundle in a bare Debian (root; debootstrap)
	@bash tests/tools/bundle_check.sh $(B)

.PHONY: gpu-check gpu-bench bundle bundle-check
.PHONY: FORCE all tests-build fuzz fuzzers deps deps-test demo test check bench bench-loader bench-shuffle bench-ijb lfw-reference install help clean
.SECONDARY:
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
