// Steps of a stack of layers, whose weights are packed once and whose states stay where they are.
#pragma once

#include <vector>

#include "packed.h"
#include "tape.h"

namespace fastrnn {

struct Stream {
    struct Layer {
        std::shared_ptr<const Packed> packed;
        Index I;
        std::vector<char> w_ih;  // (I, G*H), for tokens: their columns are looked up
        std::vector<char> b_ih;  // (G*H,), likewise; empty is zeros
        Regularising regularising;
        Buffer state[kMaxStates];               // (B, H) each
        std::vector<char> state_0[kMaxStates];  // (H,) each, which a row begins with; empty is zeros
        Buffer y;                               // (B, H), input of the layer above, or more than is given out
        Buffer workspace;
    };

    Cell cell;
    bool single;  // float32, not float64
    WeightFormat format;
    bool tokens;
    Index B, H, P;  // P of 0 stands for H
    Index outputs;  // of the H columns of h, those that there are to give out
    const KernelTable* table;
    std::vector<Layer> layers;
    std::vector<std::int32_t> slots;           // 0, 1, ..., B-1: every row's token counts as another
    std::vector<std::int64_t> tokens_at_hand;  // (B,)
    double flops = 0;                          // of a step
    Options options;
    bool turned = false;  // the next step's direction through the weights: the last one's end is near
};

}  // namespace fastrnn
