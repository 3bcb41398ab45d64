// A growing array of plain values. It grows by realloc, which moves a large array's pages instead of copying them: a
// column of gigabytes never exists twice.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace shardprof {

template <typename T>
class Column {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Column() = default;
  Column(Column&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Column& operator=(Column&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;
  ~Column() { std::free(data_); }

  void push_back(T value) {
    if (size_ == capacity_) grow();
    data_[size_++] = value;
  }

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] T operator[](size_t row) const { return data_[row]; }
  [[nodiscard]] std::span<const T> values() const { return {data_, size_}; }

 private:
  static constexpr size_t first_capacity = 1024;

  void grow() {
    const size_t capacity = capacity_ == 0 ? first_capacity : capacity_ + capacity_ / 2;
    void* moved = std::realloc(data_, capacity * sizeof(T));
    if (moved == nullptr) throw std::bad_alloc{};
    data_ = static_cast<T*>(moved);
    capacity_ = capacity;
  }

  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace shardprof
