// The packed weights of a layer, kept from call to call for as long as the weights stay the same.
#pragma once

#include <cstdint>
#include <memory>

#include "buffer.h"
#include "run.h"

namespace fastrnn {

// Nothing in it changes once it is made: calls at the same time may share it.
struct Packed {
    const KernelTable* table;  // whose kernels know the layout
    Cell cell;
    bool single;  // float32, not float64
    bool dense;   // of a dense input, not of tokens
    Index I, H, P;
    std::uint64_t fingerprint;  // of the weights it was made of; 0 of frozen ones
    Buffer memory;
};

// run_forward() with `kept`, if it was made of the same weights by the same kernels; else it packs them anew. Returns
// what the next call should be given; `kept` may be null. Whether the weights are the same is seen from a fingerprint
// of 64 bits, so that arrays may be written to between calls as one likes; where all of a layer's calls are `frozen`,
// they never change, and nobody looks.
template <class Real>
std::shared_ptr<const Packed> run_forward(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop,
                                          std::shared_ptr<const Packed> kept, bool frozen);

}  // namespace fastrnn
