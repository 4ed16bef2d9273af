// What a call may ask for. A library that is told something else would write where it must not.
#pragma once

#include "dispatch.h"

namespace densenets {

// Thrown before anything is computed, and caught where the library is entered.
struct BadArgument {
  char reason[96];
};

void check_data_type(int32_t data_type);
void check_threads(int32_t threads);

// Each throws BadArgument.
void check_forward(const Unit& unit);
void check_backward(const Unit& unit);
void check_stem_forward(const Unit& unit, const uint8_t* winners);
void check_stem_backward(const Unit& unit, const uint8_t* winners);
void check_statistics(const Columns& columns);
void check_complete(const Unit& unit, const Columns& columns);
// What its units don't say themselves.
void check_block(const Block& block);
void check_block_backward(const Block& block);

// P of a unit or a block that was checked.
template <class Images>
int64_t pixels_of(const Images& images) {
  return images.batch * images.sides[0] * images.sides[1] * images.sides[2];
}

}  // namespace densenets
