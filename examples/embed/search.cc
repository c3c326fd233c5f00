// manta-search: the rows of an index (what manta-embed wrote) that are nearest to a question.
//
// A plain program: one question needs no other process. The index streams through, a few thousand rows at a time.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "examples/embed/index_search.h"

namespace {

manta::Status search(const std::string& model, const std::string& index, const std::string& question, size_t top) {
  auto encoder = manta::TextEncoder::load(model);
  if (!encoder.ok()) return encoder.status();
  const std::string_view texts[] = {question};
  const auto vector = encoder->encode(texts);
  if (!vector.ok()) return vector.status();
  const auto hits = embed::nearest_rows(index, *vector, top);
  if (!hits.ok()) return hits.status();
  for (size_t i = 0; i < hits->size(); ++i) {
    const embed::Hit& hit = (*hits)[i];
    std::printf("%2zu  %.3f  %s\n           %s\n", i + 1, static_cast<double>(hit.score), hit.place.c_str(),
                hit.snippet.c_str());
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Prints the rows of an index that are nearest to a question, by the cosine of their embeddings.");
  std::string model, index, question;
  size_t top = 5;
  app.add_option("QUESTION", question, "what to look for, in your own words")->required();
  app.add_option("--model", model, "folder of the sentence encoder the index was made with")->required();
  app.add_option("--index", index, "folder of Parquet files that manta-embed wrote")->required();
  app.add_option("--top", top, "how many rows")->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const manta::Status status = search(model, index, question, top);
  if (!status.ok()) std::fprintf(stderr, "manta-search: %s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
