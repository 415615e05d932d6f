#include "packed.h"

#include <cstring>

namespace fastrnn {
namespace {

constexpr std::uint64_t kMultiplier =
    0x9e3779b97f4a7c15u;  // 2^64 divided by the golden ratio, which spreads neighbours

std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) {
    // Of a product the low bits depend on low bits only: the high bits of what goes in are brought down first.
    return ((hash << 23 | hash >> 41) ^ word ^ word >> 29) * kMultiplier;
}

// Eight sums side by side, so that the latency of a multiplication is hidden: 8 bytes a cycle.
std::uint64_t fingerprint(const void* data, std::size_t bytes, std::uint64_t seed) {
    constexpr int lanes = 8;
    std::uint64_t lane[lanes], word[lanes];
    for (int i = 0; i < lanes; ++i) lane[i] = mixed(seed, static_cast<std::uint64_t>(i));
    const char* at = static_cast<const char*>(data);
    std::size_t left = bytes;
    for (; left >= sizeof word; left -= sizeof word, at += sizeof word) {
        std::memcpy(word, at, sizeof word);
        for (int i = 0; i < lanes; ++i) lane[i] = mixed(lane[i], word[i]);
    }
    std::memset(word, 0, sizeof word);
    if (left > 0) std::memcpy(word, at, left);
    std::uint64_t hash = mixed(seed, bytes);
    for (int i = 0; i < lanes; ++i) hash = mixed(hash, mixed(lane[i], word[i]));
    return hash ^ hash >> 32;
}

// Of what is packed: with tokens, columns of W_ih are looked up as they are.
template <class Real>
std::uint64_t fingerprint(const CellInfo& info, const ForwardArgs<Real>& args) {
    const Index rows = info.gates * args.size.H;
    const auto of = [](const Real* array, Index n, std::uint64_t seed) {
        return array ? fingerprint(array, static_cast<std::size_t>(n) * sizeof(Real), seed) : mixed(seed, 1);
    };
    std::uint64_t hash = of(args.b_hh, rows, of(args.w_hh, rows * args.size.H, 0));
    if (args.size.D == 0) hash = of(args.b_ih, rows, of(args.w_ih, rows * args.size.I, hash));
    return hash;
}

}  // namespace

template <class Real>
std::shared_ptr<const Packed> run_forward(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop,
                                          std::shared_ptr<const Packed> kept) {
    if (args.size.B * args.size.H == 0) {  // and nothing is packed
        run_forward(table, cell, args, stop);
        return kept;
    }
    constexpr bool single = sizeof(Real) == sizeof(float);
    const bool dense = args.size.D == 0;
    const std::uint64_t made_of = fingerprint(kCells[static_cast<int>(cell)], args);
    const bool same = kept && kept->table == &table && kept->cell == cell && kept->single == single &&
                      kept->dense == dense && kept->I == args.size.I && kept->H == args.size.H &&
                      kept->fingerprint == made_of;
    if (!same) {
        Buffer memory(static_cast<std::size_t>(packed_size<Real>(table, cell, args.size)) * sizeof(Real));
        kept = std::make_shared<const Packed>(
            Packed{&table, cell, single, dense, args.size.I, args.size.H, made_of, std::move(memory)});
    }
    args.packed = static_cast<Real*>(kept->memory.data());
    args.fills_packed = !same;
    run_forward(table, cell, args, stop);
    return kept;
}

template std::shared_ptr<const Packed> run_forward(const KernelTable&, Cell, ForwardArgs<float>, StopHook,
                                                   std::shared_ptr<const Packed>);
template std::shared_ptr<const Packed> run_forward(const KernelTable&, Cell, ForwardArgs<double>, StopHook,
                                                   std::shared_ptr<const Packed>);

}  // namespace fastrnn
