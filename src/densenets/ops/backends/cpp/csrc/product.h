// The two inner loops, in which nearly all of the time is spent.
//
// Operands are packed in blocks of 64 bytes, so that every address in the loops is a constant away from a
// running pointer. What is broadcast is an element, or for bfloat16 instructions a pair of them.
#pragma once

#include "vector.h"

namespace DENSENETS_ISA {

// How a data type is stored and computed with. `Packed` is what a block holds, `pair` how many elements of
// the summed dimension one of them has. `in_matrices`: by instructions that multiply whole matrices.
// `Products` is the data type whose inner loops are the same code: they are compiled once.
struct Float32 {
  using Products = Float32;
  using Stored = float;
  using Real = float;
  using Packed = float;
  static constexpr int pair = 1;
  static constexpr bool in_matrices = false;
};
struct Float64 {
  using Products = Float64;
  using Stored = double;
  using Real = double;
  using Packed = double;
  static constexpr int pair = 1;
  static constexpr bool in_matrices = false;
};
struct BFloat16 : Float32 {  // float32 arithmetic
  using Stored = bfloat16;
};
struct BFloat16Pairs {  // AVX512-BF16: products of pairs, float32 sums
  using Products = BFloat16Pairs;
  using Stored = bfloat16;
  using Real = float;
  using Packed = uint32_t;
  static constexpr int pair = 2;
  static constexpr bool in_matrices = false;
};
struct BFloat16Matrices : BFloat16Pairs {  // AMX: the same in matrices of 16 x 16 sums
  static constexpr bool in_matrices = true;
};

template <class K>
constexpr int kBlock = 64 / static_cast<int>(sizeof(typename K::Packed));  // broadcasts in a block

// What the length of a sum is a multiple of, in broadcasts: matrices are filled up with zeros.
template <class K>
constexpr int kSumStep = K::in_matrices ? kBlock<K> : 1;

// Rows of the output that are held in registers beside `vectors` columns of vectors.
template <int vectors>
constexpr int kMaxRows = kRegisters == 32 ? (vectors == 1   ? 16
                                             : vectors == 2 ? 12
                                             : vectors == 3 ? 8
                                                            : 6)
                                          : (vectors == 1   ? 8
                                             : vectors == 2 ? 6
                                             : vectors == 3 ? 4
                                                            : 2);
constexpr int kMaxVectors = kRegisters == 32 ? 4 : 3;

template <class K>
DENSENETS_INLINE void multiply_add(Vector<typename K::Real>& sum, const typename K::Packed* element,
                                   Vector<typename K::Real> other) {
#if defined(__AVX512BF16__)
  if constexpr (K::pair == 2) {
    const __m512i both = _mm512_set1_epi32(*reinterpret_cast<const int*>(element));
    sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)both, (__m512bh)other);
    return;
  }
#endif
  if constexpr (K::pair == 1) sum += *element * other;
}

// A part of a sum: where its blocks begin, and how many broadcasts of a block belong to it.
struct Segment {
  int64_t offset;  // elements of Packed
  int64_t length;
};

// out[row][column] = sum over segments and their elements of rows[row][element] * columns[element][column].
// Rows lie 64 bytes apart. Columns are packed in the order of the sum.
template <class K, int rows, int vectors>
void sum_products(const typename K::Packed* row_blocks, const Segment* segments, int64_t segment_count,
                  const typename K::Real* columns, typename K::Real* out, int64_t out_stride) {
  using Real = typename K::Real;
  constexpr int lanes = kLanes<Real>;
  Vector<Real> sums[rows][vectors] = {};
  for (int64_t s = 0; s < segment_count; s++) {
    const typename K::Packed* element = row_blocks + segments[s].offset;
    for (int64_t i = segments[s].length; i > 0; i--) {
      Vector<Real> column[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) column[v] = load(columns + v * lanes);
#pragma GCC unroll 16
      for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) multiply_add<K>(sums[r][v], element + r * kBlock<K>, column[v]);
      }
      columns += vectors * lanes;
      element++;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) store(out + r * out_stride + v * lanes, sums[r][v]);
  }
}

// Where the operands of a weight's gradient lie: `lines` runs of `length` pixels.
struct Runs {
  int64_t lines;
  int64_t length;
  int64_t row_line;     // from a run of the broadcast operand to the next
  int64_t column_line;  // the same of the other one
  int64_t row_step;     // from a pixel (or pair) to the next
};

// out[row][column] += sum over pixels of rows[pixel][row] * columns[pixel][column].
// `columns` are blocks of 64 bytes a pixel, `column_block` apart; `first` is the first vector of them.
template <class K, int rows, int vectors>
void add_products(const typename K::Packed* row_blocks, const typename K::Packed* columns, int64_t column_block,
                  int64_t first, const Runs& runs, typename K::Real* out, int64_t out_stride) {
  using Real = typename K::Real;
  constexpr int lanes = kLanes<Real>;
  constexpr int per_block = 64 / DENSENETS_BYTES;  // vectors in a block of columns
  Vector<Real> sums[rows][vectors] = {};
  const Real* starts[vectors];
  for (int v = 0; v < vectors; v++) {
    const int64_t at = first + v;
    starts[v] = reinterpret_cast<const Real*>(columns + at / per_block * column_block) + at % per_block * lanes;
  }
  for (int64_t line = 0; line < runs.lines; line++) {
    const typename K::Packed* element = row_blocks + line * runs.row_line;
    const int64_t begin = line * runs.column_line;
    for (int64_t i = 0; i < runs.length; i++) {
      Vector<Real> column[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) column[v] = load(starts[v] + begin + i * kBlock<K>);
#pragma GCC unroll 16
      for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) multiply_add<K>(sums[r][v], element + r, column[v]);
      }
      element += runs.row_step;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      Real* p = out + r * out_stride + v * lanes;
      store(p, load(p) + sums[r][v]);
    }
  }
}

template <class K>
using SumProducts = void (*)(const typename K::Packed*, const Segment*, int64_t, const typename K::Real*,
                             typename K::Real*, int64_t);
template <class K>
using AddProducts = void (*)(const typename K::Packed*, const typename K::Packed*, int64_t, int64_t, const Runs&,
                             typename K::Real*, int64_t);

// The instance for a number of rows that is known at run time only: 1 ... kMaxRows.
template <class K, int vectors, int rows = kMaxRows<vectors>>
SumProducts<K> sum_products_of(int count) {
  if constexpr (rows == 1) {
    return sum_products<K, 1, vectors>;
  } else {
    return count == rows ? sum_products<K, rows, vectors> : sum_products_of<K, vectors, rows - 1>(count);
  }
}

template <class K, int vectors, int rows = kMaxRows<vectors>>
AddProducts<K> add_products_of(int count) {
  if constexpr (rows == 1) {
    return add_products<K, 1, vectors>;
  } else {
    return count == rows ? add_products<K, rows, vectors> : add_products_of<K, vectors, rows - 1>(count);
  }
}

template <class K>
SumProducts<K> sum_products_of(int vectors, int rows) {
  using P = typename K::Products;
  switch (vectors) {
    case 1: return sum_products_of<P, 1>(rows);
    case 2: return sum_products_of<P, 2>(rows);
    case 3: return sum_products_of<P, 3>(rows);
    default: return sum_products_of<P, kMaxVectors>(rows);
  }
}

template <class K>
AddProducts<K> add_products_of(int vectors, int rows) {
  using P = typename K::Products;
  switch (vectors) {
    case 1: return add_products_of<P, 1>(rows);
    case 2: return add_products_of<P, 2>(rows);
    case 3: return add_products_of<P, 3>(rows);
    default: return add_products_of<P, kMaxVectors>(rows);
  }
}

inline int max_rows(int vectors) {
  switch (vectors) {
    case 1: return kMaxRows<1>;
    case 2: return kMaxRows<2>;
    case 3: return kMaxRows<3>;
    default: return kMaxRows<kMaxVectors>;
  }
}

}  // namespace DENSENETS_ISA
