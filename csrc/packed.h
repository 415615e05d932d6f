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

// The weights of `args`, whose size.T is 0, packed for calls with `packed`.
template <class Real>
std::shared_ptr<const Packed> pack(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop);

// Of a layer whose arrays may be written to between calls as one likes, by other threads during them too. May be used
// by several threads at a time.
class KeptWeights {
public:
    // `frozen`: the weights are the same in all calls, and nobody looks. In another format than plain they have to be.
    KeptWeights(bool frozen, WeightFormat format) noexcept : frozen_(frozen), format_(format) {}

    WeightFormat format() const { return format_; }

    // Have the weights of the next call packed, as if there had been one with the same before.
    void expect_the_same();

    // Of a format, which calls of it take and keep with the GIL, so that nobody waits for the lock: what is packed for
    // such a call, which then need not be given any weights; or null.
    template <class Real>
    std::shared_ptr<const Packed> held(const KernelTable& table, Cell cell, const ForwardArgs<Real>& args) const;
    void keep(std::shared_ptr<const Packed> packed);

    // Whether any are packed by this table.
    bool packed_by(const KernelTable& table) const;

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
    const WeightFormat format_;
    mutable std::mutex mutex_;
    State state_;
};

}  // namespace fastrnn
