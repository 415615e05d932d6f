// Weights of bfloat16, float32 without its last 16 bits, rounded to the nearest; so are the rows that they are
// multiplied with. Sums are of float32.
#pragma once

#include "words.h"

namespace fastrnn::FASTRNN_ISA {
namespace {
namespace bfloat16 {

struct Format {
    static constexpr int kOfWord = 2;
    static constexpr bool kScaled = false;

    struct Product {
#ifdef FASTRNN_DOT_BFLOAT16
        static constexpr int kUnrolled = 2;
        static Vec<float> add(Vec<float> x, Vec<float> w, Vec<float> sum) { return add_products_bfloat16(x, w, sum); }
#else
        static constexpr int kUnrolled = 1;
        static Vec<float> add(Vec<float> x, Vec<float> w, Vec<float> sum) { return fma(x, w, sum); }
#endif
    };
    using Vector = WordsOf<Product>;

    using Number = std::uint16_t;  // its bits
    static std::uint32_t word(const Number* row, Index n) {
        return (n > 0 ? row[0] : 0) | (n > 1 ? static_cast<std::uint32_t>(row[1]) << 16 : 0);
    }
    static Number number(std::uint32_t word, int i) { return static_cast<Number>(word >> (i * 16)); }
    static float weight(std::uint32_t word, int i) {
        const std::uint32_t bits = static_cast<std::uint32_t>(number(word, i)) << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
};

#ifndef FASTRNN_DOT_BFLOAT16
inline Format::Vector part_of(Format::Vector words, int part) {
    return {part ? high_bfloat16(words.v) : low_bfloat16(words.v)};
}
}  // namespace bfloat16

template <>
constexpr int kParts<bfloat16::Format::Vector> = 2;

namespace bfloat16 {
#endif

// Rows that are ready are words, too, where the processor multiplies those, and else numbers again, rounded.
inline Index ready_size(Index depth) { return pitch<float>(words_of<Format>(depth) * kParts<Format::Vector>); }

inline void make_ready(const Rows<float>& rows, Index begin, Index end, Index depth, float* ready) {
    using V = Vec<float>;
    const Index size = ready_size(depth);
    for (Index r = begin; r < end; ++r) {
        const float* const row = row_at(rows, r);
        float* const to = ready + r * size;
        for (Index k = 0; k < depth; k += V::kLanes) {
            const V x = load_part<V>(row + k, smaller(V::kLanes, depth - k));
#ifdef FASTRNN_DOT_BFLOAT16
            x.store_bfloat16(reinterpret_cast<std::uint16_t*>(to) + k);
#else
            round_bfloat16(x).store(to + k);
#endif
        }
    }
}

inline void multiply(const Rows<float>& rows, Index row_begin, Index row_end, const Panels<float>& panels,
                     const Turns& turns, const Epilogue<float>& epilogue, const Touched<float>* touched) {
    product<Format::Vector>(rows, row_begin, row_end, panels_of_words<Format>(panels), turns, epilogue, touched);
}

inline void multiply_block(const Rows<float>& rows, Index first, Index end, const Panels<float>& panels, Index panel,
                           float* sums) {
    product_of_block<Format::Vector>(rows, first, end, panels_of_words<Format>(panels), panel, sums);
}

constexpr ProductKernels<float> kernels = kernels_of_words<Format>(multiply, multiply_block, ready_size, make_ready);

}  // namespace bfloat16
}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
