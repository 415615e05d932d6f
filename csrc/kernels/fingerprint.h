// What tells whether memory holds the same as before, about as fast as it can be read.
#pragma once

#include "memory.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Memory is read in blocks, and of each lane of 64 bits two sums are taken over a block's words: with keys k and l,
//
//     sum of (low + k) * (high + l) mod 2^64         where low and high are halves of a word, and their sums mod 2^32
//
// This is NH (Black, Halevi, Krawczyk, Krovetz and Rogaway, 1999): two blocks that differ, however they do, have the
// same sum for one in 2^32 choices of the keys, and the same two sums, with keys a step apart, for one in 2^64. A
// change in half a word alone, that is in one float, always shows: for it not to, the other half would have to be minus
// its key in both sums. What the sums of a block are goes into the lanes by mappings that are one-to-one in both.
constexpr int kHashedLanes = kFingerprintLanes / 2;
constexpr std::size_t kBlockSteps = 32;

struct FingerprintKeys {
    alignas(64) std::uint64_t of_step[kBlockSteps + 1][kHashedLanes];

    // SplitMix64 (Steele, Lea and Flood, 2014).
    constexpr FingerprintKeys() : of_step() {
        std::uint64_t state = 0;
        for (auto& step : of_step)
            for (std::uint64_t& key : step) {
                state += 0x9e3779b97f4a7c15u;
                key = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
                key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
                key ^= key >> 31;
            }
    }
};

constexpr FingerprintKeys kFingerprintKeys;

inline Bits times(Bits a, std::uint32_t odd) {
    const Bits factor = Bits::broadcast(odd);
    return low_product(a, factor) + low_product(a.right<32>(), factor).left<32>();
}

inline Bits mixed(Bits a) {
    a = times(a ^ a.right<32>(), 0x9e3779b1u);
    a = times(a ^ a.right<29>(), 0x85ebca77u);
    return a ^ a.right<32>();
}

inline void take_block(const char* from, std::size_t steps, std::uint64_t* lanes) {
    constexpr int count = kHashedLanes / Bits::kLanes;
    Bits sums[2][count];
    for (auto& sum : sums)
        for (Bits& of_lanes : sum) of_lanes = Bits::broadcast(0);
    for (std::size_t step = 0; step < steps; ++step)
        for (int i = 0; i < count; ++i, from += sizeof(Bits)) {
            const Bits words = Bits::load(from);
            for (std::size_t which = 0; which < 2; ++which) {
                const std::uint64_t* const keys = kFingerprintKeys.of_step[step + which] + i * Bits::kLanes;
                const Bits keyed = add_halves(words, Bits::load(keys));
                sums[which][i] = sums[which][i] + low_product(keyed, keyed.right<32>());
            }
        }
    for (const auto& sum : sums)
        for (const Bits& of_lanes : sum) {
            mixed(Bits::load(lanes) ^ of_lanes).store(lanes);
            lanes += Bits::kLanes;
        }
}

void fingerprint(const void* data, std::size_t bytes, std::uint64_t* lanes) {
    constexpr std::size_t stripe = kHashedLanes * sizeof(std::uint64_t);
    const char* from = static_cast<const char*>(data);
    while (bytes >= stripe) {
        const std::size_t stripes = bytes / stripe, steps = stripes < kBlockSteps ? stripes : kBlockSteps;
        take_block(from, steps, lanes);
        from += steps * stripe;
        bytes -= steps * stripe;
    }
    if (bytes > 0) {
        char rest[stripe] = {};
        std::memcpy(rest, from, bytes);
        take_block(rest, 1, lanes);
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
