// The kernel tables that this processor can run, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "kernel_table.h"

namespace fastrnn {

// Best first. Without `dots` they leave alone what only some processors of an instruction set have for a weight format.
std::vector<const KernelTable*> supported_tables(bool dots = true);

// The table that calls use which start now: the best one, until another is chosen.
const KernelTable& active_table() noexcept;

// Chooses a table by the name of its instruction set. Throws std::invalid_argument, naming what there is, if this build
// has no such table or this processor cannot run it. Safe to call from any thread at any time.
void choose_table(const std::string& isa);

}  // namespace fastrnn
