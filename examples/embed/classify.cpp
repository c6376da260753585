// The same in C++: g++ -std=c++17 classify.cpp -I. -L. -lfashion -Wl,-rpath,. -o classify
#include "fashion.h"
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <vector>

static std::vector<unsigned char> body(const char *path, size_t skip) {
  std::ifstream f(path, std::ios::binary);
  std::vector<unsigned char> all{std::istreambuf_iterator<char>(f), {}};
  if (all.size() < skip) throw std::runtime_error(std::string("cannot read ") + path);
  return {all.begin() + static_cast<long>(skip), all.end()};
}

static void check(int status) {
  if (status) throw std::runtime_error(fashion_strerror(status));
}

int main(int argc, char **argv) try {
  if (argc != 3) throw std::runtime_error("usage: classify IMAGES LABELS");
  auto images = body(argv[1], 16), labels = body(argv[2], 8);
  std::vector<float> x(images.size()), p(labels.size() * 10);
  std::transform(images.begin(), images.end(), x.begin(), [](unsigned char c) { return c / 255.0f; });
  fashion_context *made = nullptr;
  check(fashion_create(nullptr, &made));
  std::unique_ptr<fashion_context, void (*)(fashion_context *)> context(made, fashion_destroy);
  check(fashion_predict(context.get(), static_cast<int64_t>(labels.size()), x.data(), p.data()));
  size_t right = 0;
  for (size_t i = 0; i < labels.size(); i++)
    right += std::max_element(&p[10 * i], &p[10 * i] + 10) - &p[10 * i] == labels[i];
  std::cout << right << " of " << labels.size() << " right\n";
} catch (const std::exception &e) {
  std::cerr << e.what() << "\n";
  return 1;
}
