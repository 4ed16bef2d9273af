// Memory that is asked for while something else is computed.
#pragma once

#include "pack.h"

namespace DENSENETS_ISA {

// Asks for some columns of some rows of a matrix, a few at a time, while something else is computed.
class Prefetch {
 public:
  template <class T>
  Prefetch(const T* columns, int64_t stride, int64_t columns_count, const int64_t* rows, int64_t count)
      : start_(reinterpret_cast<const char*>(columns)), row_bytes_(stride * static_cast<int64_t>(sizeof(T))),
        bytes_(round_up(columns_count * static_cast<int64_t>(sizeof(T)), kHalfLine)), rows_(rows), count_(count) {}

  // A prefetch is dropped where the page isn't known yet, so a value of the row is loaded some rows before.
  DENSENETS_INLINE void row(int64_t index) const {
    if (bytes_ == 0) return;
    if (const int64_t later = index + 8; later < count_ && rows_[later] != kOutside) {
      (void)*static_cast<const volatile char*>(start_ + rows_[later] * row_bytes_);
    }
    if (rows_[index] == kOutside) return;
    const char* end = start_ + rows_[index] * row_bytes_ + bytes_;
    for (const char* line = end - bytes_ - (reinterpret_cast<intptr_t>(end - bytes_) & 63); line < end; line += 64) {
      __builtin_prefetch(line, 0, 2);
    }
  }

 private:
  static constexpr int64_t kHalfLine = 32;  // what the load of a row's last columns takes at least
  const char* start_;
  int64_t row_bytes_;
  int64_t bytes_;
  const int64_t* rows_;
  int64_t count_;
};

// Spreads `wanted` items evenly over `work` units of other work.
class Pace {
 public:
  Pace(int64_t wanted, int64_t work) : wanted_(wanted), work_(work) {}

  template <class Item>
  DENSENETS_INLINE void advance(int64_t work, Item&& item) {
    done_ += work;
    const int64_t end = std::min(wanted_, wanted_ * done_ / work_ + 1);
    for (; next_ < end; next_++) item(next_);
  }

 private:
  int64_t wanted_;
  int64_t work_;
  int64_t done_ = 0;
  int64_t next_ = 0;
};

}  // namespace DENSENETS_ISA
