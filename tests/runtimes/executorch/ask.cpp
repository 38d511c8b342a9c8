// Asks the sample: argv[1] a program, argv[2] questions, each pixels, before, after and ends as
// "count numbers ...". Prints the token ids of an answer a line.

#include <fstream>
#include <iostream>

#include "vision_language_model.h"

template <typename T>
std::vector<T> list(std::istream& in) {
  size_t count = 0;
  in >> count;
  std::vector<T> numbers(count);
  for (auto& number : numbers) in >> number;
  return numbers;
}

int main(int, char** argv) {
  edgevlm::VisionLanguageModel model(argv[1]);
  std::ifstream in(argv[2]);
  size_t questions = 0;
  in >> questions;
  while (questions--) {
    auto pixels = list<float>(in);
    auto before = list<int64_t>(in), after = list<int64_t>(in), ends = list<int64_t>(in);
    for (auto id : model.answer(pixels, before, after, {ends.begin(), ends.end()})) std::cout << id << " ";
    std::cout << std::endl;
  }
}
