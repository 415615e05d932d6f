// What one ISA exports: plain data and function pointers, so that nothing compiled for one ISA can be picked by the
// linker for another. kernels/kernels.cpp is compiled once per ISA and defines one table.
#pragma once

#include "problem.h"

namespace fastrnn {

class Team;  // thread_pool.h

template <class Real>
struct CellKernels {
    // Sizes are in elements of Real. The caller allocates, so that kernels neither allocate nor throw.
    Index (*tape_size)(const Sizes&);
    Index (*packed_size)(const Sizes&);
    Index (*forward_workspace)(const ForwardArgs<Real>&);
    Index (*backward_workspace)(const BackwardArgs<Real>&);
    Index (*step_workspace)(Index H);
    // Called by every member of the team with the same arguments.
    void (*forward)(const ForwardArgs<Real>&, Team&);
    void (*backward)(const BackwardArgs<Real>&, Team&);
    // The same, or called by one thread alone: with no team. Null for cells that only layers have.
    void (*step)(const StepArgs<Real>&, Team*);
    void (*trace)(const TraceArgs<Real>&, Team&);  // of one member
};

// The elementwise functions of kernels/math.h, reachable so that their ULP bounds can be tested on every ISA.
template <class Real>
struct MathKernels {
    void (*exp)(const Real* in, Real* out, Index n);
    void (*tanh)(const Real* in, Real* out, Index n);
    void (*sigmoid)(const Real* in, Real* out, Index n);
};

// What the machine can do at best with this ISA's vectors; the benchmarks time these.
struct Probes {
    // Runs `iterations` rounds of independent float32 FMAs in registers; returns how many floating-point operations
    // that was. *sink receives a value that keeps the work alive.
    double (*fma)(Index iterations, float* sink);
    // Reads n floats once with plain vector loads; returns their sum.
    float (*read)(const float* data, Index n);
};

constexpr int kFingerprintLanes = 16;

struct KernelTable {
    const char* isa;  // "baseline", "avx2", "avx512", "neon"
    int float_lanes;  // float32 lanes of a vector
    CellKernels<float> f32[kCellCount];
    CellKernels<double> f64[kCellCount];
    Index (*block_steps)(const Sizes&);  // see kernels/tape.h
    // Takes memory into the lanes of a fingerprint: see kernels/fingerprint.h.
    void (*fingerprint)(const void* data, std::size_t bytes, std::uint64_t* lanes);
    // sums (n) = the columns of rows (depth, n), added to them if they are to go on; `rest` (n): see BackwardArgs.
    void (*column_sums_f32)(const float* rows, Index depth, Index n, bool goes_on, float* sums, float* rest);
    void (*column_sums_f64)(const double* rows, Index depth, Index n, bool goes_on, double* sums, double* rest);
    void (*linear_f32)(const LinearArgs<float>&);
    void (*linear_f64)(const LinearArgs<double>&);
    MathKernels<float> math_f32;
    MathKernels<double> math_f64;
    Probes probes;
};

}  // namespace fastrnn
