// The loop over time, forward and backward: threads, lengths, tokens, the tape, projections. It is compiled once for
// each real type, and knows cells, weight formats and instruction sets by their tables alone.
#pragma once

#include "../kernel_table.h"
#include "../thread_pool.h"

namespace fastrnn {

// A cell, by the tables of one instruction set. Sizes are in elements of Real: the caller allocates, so that the loop
// neither allocates nor throws, but for Stopped.
template <class Real>
struct Net {
    const Kernels<Real>& kernels;
    Cell cell;

    const ForwardCell<Real>& forward() const { return kernels.cells->forward[static_cast<int>(cell)]; }
    const BackwardCell<Real>& backward() const { return kernels.cells->backward[static_cast<int>(cell)]; }
    const StepCell<Real>& step() const { return kernels.cells->step[static_cast<int>(cell)]; }
    const CellShape& shape() const { return *forward().shape; }
    const ProductKernels<Real>& product(WeightFormat format) const {
        return *kernels.product[static_cast<int>(format)];
    }
};

// Whether packed weights have W_ih for tokens, too, whose columns are not to be had as the caller has them.
inline bool keeps_columns(WeightFormat format) { return format != WeightFormat::plain; }

template <class Real>
Index tape_size(const Net<Real>& net, const Sizes& size, WeightFormat format);

template <class Real>
Index packed_size(const Net<Real>& net, const Sizes& size, WeightFormat format);

template <class Real>
Index workspace_size(const Net<Real>& net, const ForwardArgs<Real>& args);

// Of ForwardArgs::ready, for one part of the units.
template <class Real>
Index ready_size(const Net<Real>& net, const ForwardArgs<Real>& args);

template <class Real>
Index workspace_size(const Net<Real>& net, const BackwardArgs<Real>& args);

// Called by every member of the team with the same arguments.
template <class Real>
void forward(const Net<Real>& net, const ForwardArgs<Real>& args, Team& team);

template <class Real>
void backward(const Net<Real>& net, const BackwardArgs<Real>& args, Team& team);

// The matrices that were packed in a format; called by one member.
template <class Real>
void unpack(const Net<Real>& net, const UnpackArgs& args, Team& team);

// The states and gates of every step, from a tape; called by one member.
template <class Real>
void trace(const Net<Real>& net, const TraceArgs<Real>& args, Team& team);

}  // namespace fastrnn
