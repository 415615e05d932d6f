// The packed weights of a layer, kept from call to call for as long as the weights stay the same.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "buffer.h"
#include "run.h"

namespace fastrnn {

// What the layout of packed weights depends on.
struct PackedLayout {
    const KernelTable* table;  // whose kernels know it
    Cell cell;
    WeightFormat format;
    bool single;  // float32, not float64
    bool dense;   // of a dense input, not of tokens
    Index I, H, P;

    bool operator==(const PackedLayout& other) const;
};

// Nothing in it changes once it is made: calls at the same time may share it.
struct Packed {
    PackedLayout layout;
    Buffer memory;
};

// The weights of `args`, whose size.T is 0, packed for calls with `packed`. `args.size.B` is 1 at least.
template <class Real>
std::shared_ptr<const Packed> pack(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop);

// Of a layer whose arrays may be written to between calls as one likes, by other threads during them too. May be used
// by several threads at a time.
class KeptWeights {
public:
    // `frozen`: the weights are the same in all calls, and nobody looks.
    explicit KeptWeights(bool frozen) noexcept : frozen_(frozen) {}

    // Have the weights of the next call packed, as if there had been one with the same before.
    void expect_the_same();

    // Bytes of what is packed.
    std::size_t bytes() const;

    // run_forward() with plain weights that are packed already, if they are the same as then.
    template <class Real>
    void run_forward(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop);

private:
    using Fingerprint = std::array<std::uint64_t, kFingerprintLanes>;
    struct State {
        std::shared_ptr<const Packed> packed;
        Fingerprint packed_of{};  // what it was made of; nothing, if frozen
        PackedLayout last_layout{};
        Fingerprint last{};     // what the last call without `packed` was given
        bool expected = false;  // whether the first one without it is to be taken for the second
    };

    template <class Real>
    static Fingerprint fingerprint(const PackedLayout& layout, const ForwardArgs<Real>& args, StopHook stop);
    State state() const;
    template <class Change>
    void change(const Change& change);

    const bool frozen_;
    mutable std::mutex mutex_;
    State state_;
};

// The matrices of a layer in another format than plain, of which there is nothing but what is packed of them.
class FormatWeights {
public:
    explicit FormatWeights(std::shared_ptr<const Packed> packed) noexcept : packed_(std::move(packed)) {}

    // What they are packed in now. Taken and given back with the GIL, so that nobody waits for the lock.
    std::shared_ptr<const Packed> packed() const;
    void keep(std::shared_ptr<const Packed> packed);

private:
    mutable std::mutex mutex_;
    std::shared_ptr<const Packed> packed_;
};

// Rows of the matrices in an array of numbers, and how many numbers they have in all.
struct MatrixSize {
    Index rows, numbers;
};
MatrixSize matrix_size(const PackedLayout& layout, bool hidden);

// The matrices of what is packed in another format than plain.
void unpack(const Packed& packed, const UnpackedMatrix (&matrix)[2], StopHook stop);

// The same weights packed by another table, with the biases and vectors of `args`.
std::shared_ptr<const Packed> pack_anew(const Packed& packed, const KernelTable& table, ForwardArgs<float> args,
                                        StopHook stop);

}  // namespace fastrnn
