/* The blocked driver as phases of a kernel. */
#include "codegen/rt/gemm.h"
#include "codegen/rt/kernel.h"

void rt_gemm_phase(const KernelArgs *a) { gemm_run(a->ctx, a, a->ptr, a->lo, a->hi, a->scratch, a->shared); }

void rt_gemm_pack(const KernelArgs *a) { gemm_pack(a->ctx, a, a->ptr, a->lo, a->hi, a->shared); }

void rt_gemm_columns(const KernelArgs *a) { gemm_pack_columns(a->ctx, a, a->ptr, a->lo, a->hi, a->shared); }

void rt_gemm_chunks(const KernelArgs *a) { gemm_run_chunks(a->ctx, a, a->ptr, a->lo, a->hi, a->scratch, a->shared); }

void rt_gemm_join(const KernelArgs *a) { gemm_join_chunks(a->ctx, a, a->ptr, a->lo, a->hi, a->scratch, a->shared); }
