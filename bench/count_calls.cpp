// Runs one kind of call some times, for a tool that counts instructions: see instructions.py.
//
//     count_calls ISA CELL MODE T,B,I,H CALLS

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "buffer.h"
#include "dispatch.h"
#include "run.h"
#include "thread_count.h"

namespace fastrnn {
namespace {

using Floats = std::vector<float>;

Cell cell_of(const std::string& name) {
    for (int i = 0; i < kCellCount; ++i)
        if (name == kCells[i].name) return static_cast<Cell>(i);
    throw std::invalid_argument("there is no cell " + name);
}

class Calls {
public:
    Calls(Cell cell, const Sizes& size) : cell_(cell), info_(kCells[static_cast<int>(cell)]) {
        const auto [T, B, I, H, D, first_row, P] = size;
        const Index rows = info_.gates * H;
        tape_ =
            Buffer(static_cast<std::size_t>(tape_size<float>(table_, cell, size, WeightFormat::plain)) * sizeof(float));
        forward_.size = backward_.size = step_.size = size;
        forward_.x = step_.x = numbers(T * B * I);
        forward_.w_ih = step_.w_ih = numbers(rows * I);
        forward_.w_hh = step_.w_hh = numbers(rows * H);
        forward_.b_ih = step_.b_ih = numbers(rows);
        forward_.b_hh = step_.b_hh = numbers(rows);
        forward_.y = numbers(T * B * H);
        backward_.dy = numbers(T * B * H);
        backward_.dx = numbers(T * B * I);
        backward_.dw_ih = numbers(rows * I);
        backward_.dw_hh = numbers(rows * H);
        backward_.db_ih = numbers(rows);
        backward_.db_hh = numbers(rows);
        for (int s = 0; s < info_.states; ++s) {
            forward_.state_0[s] = step_.state[s] = numbers(B * H);
            forward_.state_n[s] = step_.next_state[s] = numbers(B * H);
            backward_.dstate_n[s] = numbers(B * H);
            backward_.dstate_0[s] = numbers(B * H);
        }
        backward_.tape = static_cast<float*>(tape_.data());
    }

    void inference() const { run_forward(table_, cell_, forward_, nullptr); }
    void training() const {
        ForwardArgs<float> forward = forward_;
        forward.tape = static_cast<float*>(tape_.data());
        run_forward(table_, cell_, forward, nullptr);
        run_backward(table_, cell_, backward_, nullptr);
    }
    void step() const { run_step(table_, cell_, step_, nullptr); }

private:
    float* numbers(Index n) {
        arrays_.emplace_back(static_cast<std::size_t>(n));
        for (float& number : arrays_.back()) number = std::uniform_real_distribution<float>(-0.2f, 0.2f)(random_);
        return arrays_.back().data();
    }

    const KernelTable& table_ = active_table();
    const Cell cell_;
    const CellInfo& info_;
    std::mt19937 random_;
    std::vector<Floats> arrays_;
    Buffer tape_;
    ForwardArgs<float> forward_{};
    BackwardArgs<float> backward_{};
    StepArgs<float> step_{};
};

void count(const std::string& isa, const std::string& cell, const std::string& mode, const char* shape, int calls) {
    int T, B, I, H;
    if (std::sscanf(shape, "%d,%d,%d,%d", &T, &B, &I, &H) != 4) throw std::invalid_argument("no shape T,B,I,H");
    set_num_threads(1);
    choose_table(isa);
    const Calls call(cell_of(cell), {T, B, I, H, 0});
    const auto run = mode == "inference" ? &Calls::inference : mode == "training" ? &Calls::training : &Calls::step;
    for (int i = 0; i < calls; ++i) (call.*run)();
}

}  // namespace
}  // namespace fastrnn

int main(int argc, char** argv) {
    try {
        if (argc != 6) throw std::invalid_argument("expected ISA CELL MODE T,B,I,H CALLS");
        fastrnn::count(argv[1], argv[2], argv[3], argv[4], std::atoi(argv[5]));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "count_calls: %s\n", error.what());
        return 1;
    }
}
