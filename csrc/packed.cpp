#include "packed.h"

#include <cstring>

namespace fastrnn {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15u;  // 2^64 divided by the golden ratio

std::uint64_t word_at(const char* data) {
    std::uint64_t word;
    std::memcpy(&word, data, sizeof word);
    return word;
}

// All 128 bits of a product, folded: every bit of either factor changes about half of the result's.
std::uint64_t folded(std::uint64_t a, std::uint64_t b) {
#ifdef __SIZEOF_INT128__
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
    const std::uint64_t half = 0xffffffffu;
    const std::uint64_t low = (a & half) * (b & half), high = (a >> 32) * (b >> 32);
    const std::uint64_t one = (a >> 32) * (b & half), other = (a & half) * (b >> 32);
    const std::uint64_t middle = (low >> 32) + (one & half) + other;
    return (middle << 32 | (low & half)) ^ (high + (one >> 32) + (middle >> 32));
#endif
}

// A multiplication for 16 bytes, in four chains side by side, so that its latency is hidden: as fast as the weights
// come from the outer caches, which is what a step of one row takes to read them.
std::uint64_t fingerprint(const void* data, std::size_t bytes, std::uint64_t seed) {
    constexpr std::size_t chains = 4, stride = 16;
    std::uint64_t chain[chains];
    for (std::size_t i = 0; i < chains; ++i) chain[i] = seed + i;
    const auto take = [&](const char* from) {
        for (std::size_t i = 0; i < chains; ++i, from += stride)
            chain[i] = folded(word_at(from) ^ kGolden * (i + 1), word_at(from + 8) ^ chain[i]);
    };
    const char* at = static_cast<const char*>(data);
    std::size_t left = bytes;
    for (; left >= chains * stride; left -= chains * stride, at += chains * stride) take(at);
    char rest[chains * stride] = {};
    if (left > 0) std::memcpy(rest, at, left);
    take(rest);
    std::uint64_t hash = seed ^ bytes;
    for (const std::uint64_t end : chain) hash = folded(hash ^ kGolden, end);
    return hash;
}

// Of what is packed: with tokens, columns of W_ih are looked up as they are.
template <class Real>
std::uint64_t fingerprint(const CellInfo& info, const ForwardArgs<Real>& args) {
    const Index rows = info.gates * args.size.H;
    const auto of = [](const Real* array, Index n, std::uint64_t seed) {
        return array ? fingerprint(array, static_cast<std::size_t>(n) * sizeof(Real), seed) : folded(seed + 1, kGolden);
    };
    std::uint64_t hash = of(args.b_hh, rows, of(args.w_hh, info.recurrent * args.size.H * units_of_h(args.size), 0));
    hash = of(args.vectors, info.vectors * args.size.H, hash);
    if (args.size.D == 0) hash = of(args.b_ih, rows, of(args.w_ih, rows * args.size.I, hash));
    return hash;
}

}  // namespace

template <class Real>
std::shared_ptr<const Packed> run_forward(const KernelTable& table, Cell cell, ForwardArgs<Real> args, StopHook stop,
                                          std::shared_ptr<const Packed> kept, bool frozen) {
    if (args.size.B * args.size.H == 0) {  // and nothing is packed
        run_forward(table, cell, args, stop);
        return kept;
    }
    constexpr bool single = sizeof(Real) == sizeof(float);
    const bool dense = args.size.D == 0;
    const std::uint64_t made_of = frozen ? 0 : fingerprint(kCells[static_cast<int>(cell)], args);
    const bool same = kept && kept->table == &table && kept->cell == cell && kept->single == single &&
                      kept->dense == dense && kept->I == args.size.I && kept->H == args.size.H &&
                      kept->P == args.size.P && kept->fingerprint == made_of;
    if (!same) {
        Buffer memory(static_cast<std::size_t>(packed_size<Real>(table, cell, args.size)) * sizeof(Real));
        kept = std::make_shared<const Packed>(
            Packed{&table, cell, single, dense, args.size.I, args.size.H, args.size.P, made_of, std::move(memory)});
    }
    args.packed = static_cast<Real*>(kept->memory.data());
    args.fills_packed = !same;
    run_forward(table, cell, args, stop);
    return kept;
}

template std::shared_ptr<const Packed> run_forward(const KernelTable&, Cell, ForwardArgs<float>, StopHook,
                                                   std::shared_ptr<const Packed>, bool);
template std::shared_ptr<const Packed> run_forward(const KernelTable&, Cell, ForwardArgs<double>, StopHook,
                                                   std::shared_ptr<const Packed>, bool);

}  // namespace fastrnn
