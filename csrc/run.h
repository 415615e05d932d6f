// From a checked problem to a finished one: decides on threads, finds memory, runs the kernel.
//
// Everything here throws std::bad_alloc when there is no memory, and Stopped when `stop` said yes; what had been
// written by then is of no use.
#pragma once

#include "kernel_table.h"
#include "thread_pool.h"

namespace fastrnn {

// Whether a problem's sizes are at all possible: false where the arrays that come up in it could have 2^52 bytes
// together. Then any size that comes up fits into an Index. What follows may only be called if so.
bool addressable(const CellInfo& cell, const Sizes& size) noexcept;

template <class Real>
Index tape_size(const KernelTable& table, Cell cell, const Sizes& size, WeightFormat format);

template <class Real>
Index packed_size(const KernelTable& table, Cell cell, const Sizes& size, WeightFormat format);

// Of a call with packed weights, for whatever number of threads.
template <class Real>
Index forward_workspace(const KernelTable& table, Cell cell, const ForwardArgs<Real>& args);

// `split` of the arguments is set here, and `workspace`, where it is null.
template <class Real>
void run_forward(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop);

template <class Real>
void run_backward(const KernelTable& table, Cell cell, BackwardArgs<Real> args, StopHook stop);

// Of rows of float32, the only ones that are multiplied with other weights than plain.
void run_unpack(const KernelTable& table, Cell cell, const UnpackArgs& args, StopHook stop);

template <class Real>
void run_trace(const KernelTable& table, Cell cell, const TraceArgs<Real>& args, StopHook stop);

template <class Real>
void run_step(const KernelTable& table, Cell cell, StepArgs<Real> args, StopHook stop);

}  // namespace fastrnn
