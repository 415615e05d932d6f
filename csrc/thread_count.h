// How many threads a call may use.
#pragma once

namespace fastrnn {

inline constexpr int kMaxThreads = 1024;

// The cores that this process may use: its affinity, and no more than its control group's quota of CPU time, rounded
// up. Found out once, at the first call.
int available_threads() noexcept;

// The number of threads that large calls use: what was set last; at first FASTRNN_NUM_THREADS, else OMP_NUM_THREADS,
// else available_threads().
int get_num_threads() noexcept;

// 1 <= n <= kMaxThreads.
void set_num_threads(int n) noexcept;

// Reads the environment. Throws std::invalid_argument where FASTRNN_NUM_THREADS is no number from 1 to kMaxThreads.
// What is wrong with OMP_NUM_THREADS, which is not ours, is for others to tell: it is ignored.
void init_num_threads();

}  // namespace fastrnn
