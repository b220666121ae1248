#!/usr/bin/env bash
# Builds sinew with its feature `cuda` on a machine that has neither a GPU nor CUDA, and checks that the program starts
# without CUDA and says so where it is asked for.
#
#   scripts/check_cuda_build.sh DIR    DIR gets the toolkit (0.5 GB) and the build (up to 8 GB); both are used again the next time
#
# The compiler and the headers come from PyPI's wheels of CUDA 13.0. The wheels have no library to link against, so small ones
# are made here, which open the real ones when something of them is first called. Needs python3 with pip, gcc 6 to 15, ar and awk, on x86-64. Answers
# on a GPU are not checked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
    '' | -*)
        sed -n '2,/^set /p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
        exit 2
        ;;
esac
mkdir -p "$1"
dir=$(realpath "$1")
home=$dir/nvidia/cu13
wheels=(
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand==10.4.0.35
)

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

if [[ ! -x $home/bin/nvcc ]]; then
    # The wheels are only unpacked: they are not installed into any Python.
    python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$dir/wheels" "${wheels[@]}"
    for wheel in "$dir"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$dir"; done
    rm -r "$dir/wheels"
    chmod +x "$home"/bin/* "$home"/nvvm/bin/*
fi
ln -sfn lib "$home/lib64"
ln -sf libcudart_static.a "$home/lib/libcudart.a"

# candle's kernels for quantised files and mixtures of experts take most of the time to compile, and no policy calls
# them: this compiler makes functions of them that end the program.
cat >"$home/bin/nvcc-dense" <<'NVCC'
#!/bin/bash
source= target= before=
for argument in "$@"; do
    [[ $before != -o ]] || target=$argument
    case $argument in */moe/moe_*.cu | *mmvq_gguf.cu | *mmq_*.cu) source=$argument ;; esac
    before=$argument
done
[[ -n $source && -n $target ]] || exec "$(dirname "$0")/nvcc" "$@"
{
    printf '#include <stdio.h>\n#include <stdlib.h>\n'
    # The names of all of them, once.
    if [[ $source == */moe_gguf.cu ]]; then
        sed -nE 's/^ +pub fn ([A-Za-z0-9_]+)\(.*/void \1(void) { fputs("built without \1\\n", stderr); abort(); }/p' src/ffi.rs
    fi
} | gcc -x c -fPIC -O1 -c -o "$target" -
NVCC
chmod +x "$home/bin/nvcc-dense"

cargo fetch --locked --quiet
version=$(sed -n '/^name = "cudarc"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
cudarc=$(find "${CARGO_HOME:-$HOME/.cargo}"/registry/src -maxdepth 2 -name "cudarc-$version" | head -n 1)
[[ -d $cudarc/src/driver/sys ]] || fail "there is no source of cudarc $version in cargo's registry: expected src/driver/sys"

# library LIB MODULE SONAME CODE [BESIDE]: an archive with each function that cudarc's MODULE declares. At its first call it
# opens SONAME (and BESIDE before it) and jumps into it; without it, it answers CODE.
library() {
    local lib=$1 module=$2 soname=$3 code=$4 beside=${5:-} work=$dir/link
    mkdir -p "$work" "$home/lib/stubs"
    sed -nE 's/^ +fn ([A-Za-z0-9_]+)\(.*/\1/p' "$cudarc/src/$module/sys/mod.rs" | sort -u >"$work/names"
    [[ -s $work/names ]] || fail "found no functions in $cudarc/src/$module/sys/mod.rs"
    awk -v lib="$lib" '
        BEGIN { print ".data\n.balign 8\n.globl table_" lib "\n.hidden table_" lib "\ntable_" lib ":" }
        { print ".quad first_" lib "_" NR; names[NR] = $1 }
        END {
            print ".text"
            for (i = 1; i <= NR; i++) {
                print ".globl " names[i] "\n.type " names[i] ",@function"
                print names[i] ": jmp *table_" lib "+" 8 * (i - 1) "(%rip)"
                print "first_" lib "_" i ": pushq $" i - 1 "\njmp resolve_" lib
            }
            # All registers that may hold arguments are kept; the index of the function is on the stack.
            print "resolve_" lib ":\npushq %rbp\nmovq %rsp, %rbp\nandq $-16, %rsp\nsubq $192, %rsp"
            count = split("rdi rsi rdx rcx r8 r9 rax", kept, " ")
            for (i = 1; i <= count; i++) print "movq %" kept[i] ", " 8 * i "(%rsp)"
            for (i = 0; i < 8; i++) print "movaps %xmm" i ", " 64 + 16 * i "(%rsp)"
            print "movq 8(%rbp), %rdi\ncall open_" lib "\nmovq %rax, %r11"
            for (i = 1; i <= count; i++) print "movq " 8 * i "(%rsp), %" kept[i]
            for (i = 0; i < 8; i++) print "movaps " 64 + 16 * i "(%rsp), %xmm" i
            print "leave\naddq $8, %rsp\njmp *%r11\n.section .note.GNU-stack,\"\",@progbits"
        }' "$work/names" >"$work/$lib.s"
    {
        printf '#define LIB(name) name##_%s\n#define SONAME "%s"\n#define BESIDE "%s"\n#define CODE %s\n' "$lib" "$soname" "$beside" "$code"
        printf 'static const char *const names[] = {\n'
        sed 's/.*/    "&",/' "$work/names"
        cat <<'C'
};
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
extern void *LIB(table)[] __attribute__((visibility("hidden")));
static const char missing[] = SONAME " is not on this machine, or lacks this function";
static int code(void) { return CODE; }
static const char *text(void) { return missing; }
static int text_by_pointer(int error, const char **to) { (void)error; *to = missing; return 0; }
static void *opened(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s", folder, name);
    return dlopen(path, RTLD_NOW | RTLD_GLOBAL);
}
__attribute__((visibility("hidden"))) void *LIB(open)(unsigned long index) {
    char home[2048] = "";
    if (getenv("CUDA_HOME")) snprintf(home, sizeof home, "%s/lib64/", getenv("CUDA_HOME"));
    const char *const folders[] = {home, "", "/usr/local/cuda/lib64/"};
    void *library = 0, *function = 0;
    for (int i = 0; !library && i < 3; i++) {
        if (BESIDE[0]) opened(folders[i], BESIDE);
        library = opened(folders[i], SONAME);
    }
    if (library) function = dlsym(library, names[index]);
    if (function) {
        __atomic_store_n(&LIB(table)[index], function, __ATOMIC_RELEASE);
        return function;
    }
    const char *name = names[index];
    if (!strstr(name, "ErrorString") && !strstr(name, "ErrorName") && !strstr(name, "StatusString") && !strstr(name, "StatusName"))
        return (void *)code;
    return strncmp(name, "cuGet", 5) ? (void *)text : (void *)text_by_pointer;
}
C
    } >"$work/$lib.c"
    gcc -c -O2 -fPIC -o "$work/$lib-table.o" "$work/$lib.s"
    gcc -c -O2 -fPIC -o "$work/$lib-open.o" "$work/$lib.c"
    rm -f "$home/lib/stubs/libcuda_build_$lib.a"
    ar rcs "$home/lib/stubs/libcuda_build_$lib.a" "$work/$lib-table.o" "$work/$lib-open.o"
    printf 'INPUT(libcuda_build_%s.a)\n' "$lib" >"$home/lib/stubs/lib$lib.so"
}
rm -f "$home"/lib/libcurand.so "$home"/lib/libcudart.so
library cuda driver libcuda.so.1 100
library nvrtc nvrtc libnvrtc.so.13 11 libnvrtc-builtins.so.13.0
library curand curand libcurand.so.10 203
library cublas cublas libcublas.so.13 1
library cublasLt cublaslt libcublasLt.so.13 1
library cudnn cudnn libcudnn.so.9 1001

export CUDA_HOME=$home PATH=$home/bin:$PATH NVCC=$home/bin/nvcc-dense CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}
CARGO_TARGET_DIR=$dir/target cargo build --release --locked --bin sinew --features sinew-cli/cuda
sinew=$dir/target/release/sinew
if ! needed=$(readelf -d "$sinew" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p'); then fail "readelf could not read $sinew"; fi
if grep -E 'cuda|cublas|curand|nvrtc|cudnn' <<<"$needed"; then fail "$sinew does not start without these"; fi

# A machine without a driver: one line says so, with its cause below it. With one, the same policy must answer as it does on the CPU; that is for such a machine.
policy=policies/act_so101_pick_place
"$sinew" policy bench "$policy" --repeat 1 >/dev/null || fail "$sinew does not run $policy on the CPU"
if [[ ! -e /dev/nvidiactl ]]; then
    if said=$("$sinew" policy bench "$policy" --device cuda --repeat 1 2>&1 >/dev/null); then
        fail "$sinew ran on a GPU that is not there"
    fi
    printf '%s\n' "$said"
    [[ $(grep -c '^error: computing on cuda:0: ' <<<"$said") == 1 && $(grep -cv '^  because: ' <<<"$said") == 1 ]] ||
        fail "expected one line, and its cause below it"
fi
echo "built, and starts without CUDA: $sinew"
