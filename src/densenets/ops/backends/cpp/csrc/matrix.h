// Products by AMX, whose registers are matrices: up to 16 rows of 64 bytes.
//
// Four of them hold sums, 32 x 32 altogether; two hold rows (of 32 elements of the sum) and two columns (16
// pairs of elements, 16 columns), packed as any other operands. A sum's length is filled up with zeros.
#pragma once

#include "pack.h"

namespace DENSENETS_ISA {

constexpr int kMatrixSide = 16;

#if defined(DENSENETS_MATRICES)

// Number of a register in which two rows and two columns of matrices lie: sums, rows, columns.
constexpr int kSums = 0, kMatrixRows = 4, kMatrixColumns = 6;

template <int number>
DENSENETS_INLINE void load_matrix(const void* from, int64_t row_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(number) : "memory");
}

template <int number>
DENSENETS_INLINE void store_matrix(void* to, int64_t row_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(row_bytes), "i"(number) : "memory");
}

template <int number>
DENSENETS_INLINE void clear_matrix() {
  asm volatile("tilezero %%tmm%c0" ::"i"(number));
}

template <int sum, int row, int column>
DENSENETS_INLINE void add_product() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(row), "i"(column));
}

// Calls visit(constant number of a sum's register, lower, right) for those that are in use.
template <bool lower, bool right, class Visit>
DENSENETS_INLINE void for_each_sum(Visit&& visit) {
  visit(std::integral_constant<int, kSums>{}, 0, 0);
  if constexpr (right) visit(std::integral_constant<int, kSums + 1>{}, 0, 1);
  if constexpr (lower) visit(std::integral_constant<int, kSums + 2>{}, 1, 0);
  if constexpr (lower && right) visit(std::integral_constant<int, kSums + 3>{}, 1, 1);
}

// Where two rows and two columns of matrices lie, in bytes.
struct MatrixOperands {
  const char* rows;
  int64_t row_bytes;    // from a row to the next
  int64_t lower_bytes;  // from the upper matrix to the lower one
  const char* columns;
  int64_t column_bytes;
  int64_t right_bytes;

  template <bool lower, bool right>
  DENSENETS_INLINE void add() const {
    load_matrix<kMatrixColumns>(columns, column_bytes);
    load_matrix<kMatrixRows>(rows, row_bytes);
    add_product<kSums, kMatrixRows, kMatrixColumns>();
    if constexpr (lower) {
      load_matrix<kMatrixRows + 1>(rows + lower_bytes, row_bytes);
      add_product<kSums + 2, kMatrixRows + 1, kMatrixColumns>();
    }
    if constexpr (right) {
      load_matrix<kMatrixColumns + 1>(columns + right_bytes, column_bytes);
      add_product<kSums + 1, kMatrixRows, kMatrixColumns + 1>();
      if constexpr (lower) add_product<kSums + 3, kMatrixRows + 1, kMatrixColumns + 1>();
    }
  }
};

// The two inner loops for up to 32 rows, as `sum_products` and `add_products` are for fewer.
class MatrixProducts {
 public:
  static constexpr int kMostRows = 2 * kMatrixSide;

  // Sets the registers up for so many rows, which clears them.
  MatrixProducts(int vectors, int rows) : vectors_(vectors), rows_(rows) {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {};
    } shapes;
    const auto upper = static_cast<uint8_t>(std::min(rows, kMatrixSide));
    const auto lower = static_cast<uint8_t>(rows > kMatrixSide ? rows - kMatrixSide : kMatrixSide);
    shapes.rows[kSums] = shapes.rows[kSums + 1] = shapes.rows[kMatrixRows] = upper;
    shapes.rows[kSums + 2] = shapes.rows[kSums + 3] = shapes.rows[kMatrixRows + 1] = lower;
    shapes.rows[kMatrixColumns] = shapes.rows[kMatrixColumns + 1] = kMatrixSide;
    asm volatile("ldtilecfg %0" ::"m"(shapes) : "memory");
  }

  // See `sum_products`.
  void operator()(const uint32_t* row_blocks, const Segment* segments, int64_t segment_count, const float* columns,
                  float* out, int64_t out_stride) const {
    in_matrices([&](auto lower, auto right, int64_t vector) {
      for_each_sum<lower, right>([](auto number, int, int) { clear_matrix<number>(); });
      const char* at = reinterpret_cast<const char*>(columns) + vector * 64;
      for (int64_t s = 0; s < segment_count; s++, at += kMatrixSide * vectors_ * 64) {
        const char* rows = reinterpret_cast<const char*>(row_blocks + segments[s].offset);
        MatrixOperands{rows, 64, kMatrixSide * 64, at, vectors_ * 64, 64}.template add<lower, right>();
      }
      store<lower, right>(out + vector * kMatrixSide, out_stride);
    });
  }

  // See `add_products`; here `rows` are of a row (a channel) and its pixels side by side, `row_bytes` apart.
  void add(const bfloat16* rows, int64_t row_bytes, const uint32_t* columns, int64_t column_block, const Runs& runs,
           float* out, int64_t out_stride) const {
    in_matrices([&](auto lower, auto right, int64_t vector) {
      float* sums = out + vector * kMatrixSide;
      for_each_sum<lower, right>([&](auto number, int down, int along) {
        load_matrix<number>(sums + down * kMatrixSide * out_stride + along * kMatrixSide, out_stride * 4);
      });
      for (int64_t line = 0; line < runs.lines; line++) {
        const char* row = reinterpret_cast<const char*>(rows + line * runs.row_line);
        const char* column = reinterpret_cast<const char*>(columns + line * runs.column_line + vector * column_block);
        for (int64_t i = 0; i < runs.length; i += kMatrixSide, row += 64, column += kMatrixSide * 64) {
          MatrixOperands{row, row_bytes, kMatrixSide * row_bytes, column, 64, column_block * 4}
              .template add<lower, right>();
        }
      }
      store<lower, right>(sums, out_stride);
    });
  }

  // Other code of the process may use the registers too, and threads are switched faster without their content.
  static void release() { asm volatile("tilerelease"); }

 private:
  // Calls multiply(constant: two rows of matrices, constant: two columns, first vector) for all vectors.
  template <class Multiply>
  DENSENETS_INLINE void in_matrices(Multiply&& multiply) const {
    const bool lower = rows_ > kMatrixSide;
    for (int64_t vector = 0; vector < vectors_; vector += 2) {
      if (vector + 1 < vectors_) {
        lower ? multiply(std::true_type{}, std::true_type{}, vector)
              : multiply(std::false_type{}, std::true_type{}, vector);
      } else {
        lower ? multiply(std::true_type{}, std::false_type{}, vector)
              : multiply(std::false_type{}, std::false_type{}, vector);
      }
    }
  }

  template <bool lower, bool right>
  DENSENETS_INLINE void store(float* out, int64_t stride) const {
    for_each_sum<lower, right>([&](auto number, int down, int along) {
      store_matrix<number>(out + down * kMatrixSide * stride + along * kMatrixSide, stride * 4);
    });
  }

  int vectors_;
  int rows_;
};

#endif

// Pixels from a channel to the next where they lie side by side: an odd number of cache lines, with room for
// a matrix that begins at the last pixel.
constexpr int64_t pixel_line(int64_t pixels) { return (divide_up(pixels + 2 * kMatrixSide, 32) | 1) * 32; }

// From pixels with their channels side by side, in blocks, to channels with their pixels side by side; zeros
// behind the last.
inline void transpose_pixels([[maybe_unused]] const uint32_t* blocks, [[maybe_unused]] int64_t block_step,
                             [[maybe_unused]] int64_t channels, [[maybe_unused]] int64_t pixels,
                             [[maybe_unused]] bfloat16* lines) {
#if defined(DENSENETS_MATRICES)
  const int64_t line = pixel_line(pixels);
  for (int64_t first = 0; first < channels; first += kMatrixSide, lines += kMatrixSide * line) {
    const uint32_t* half = blocks + first / 32 * block_step + first % 32 / 2;
    for (int64_t pixel = 0; pixel < line; pixel += 32) {
      __m512i pairs[kMatrixSide];
      for (int64_t i = 0; i < kMatrixSide; i++) {
        const int64_t at = pixel + 2 * i;
        const auto load_half = [&](int64_t index) {
          return index < pixels ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half + index * kMatrixSide))
                                : _mm256_setzero_si256();
        };
        pairs[i] = zip_halves(_mm512_inserti64x4(_mm512_castsi256_si512(load_half(at)), load_half(at + 1), 1));
      }
      transpose(pairs);
      for (int64_t i = 0; i < kMatrixSide; i++) _mm512_storeu_si512(lines + i * line + pixel, pairs[i]);
    }
  }
#endif
}

// The products of `rows` rows and `vectors` vectors of columns: a function, or registers set up for them.
template <class K>
auto products_of(int vectors, int rows) {
#if defined(DENSENETS_MATRICES)
  if constexpr (K::in_matrices) {
    return MatrixProducts(vectors, rows);
  } else
#endif
  {
    return sum_products_of<K>(vectors, rows);
  }
}

template <class K>
int most_rows(int vectors) {
  return K::in_matrices ? 2 * kMatrixSide : max_rows(vectors);
}

// At the end of a thread's part.
template <class K>
void release_registers() {
#if defined(DENSENETS_MATRICES)
  if constexpr (K::in_matrices) MatrixProducts::release();
#endif
}

}  // namespace DENSENETS_ISA
