// What the tests of this folder share: where the committed values and the demo's model are, and a folder of one's own.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace manta::models {

namespace fs = std::filesystem;

inline fs::path test_data(const std::string& name) { return fs::path(MANTA_TEST_DATA) / name; }

/// The folder of all-MiniLM-L6-v2, as `./run setup` installs it.
inline fs::path minilm_folder() { return MANTA_MINILM; }

inline std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

inline void write_text(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

inline std::vector<nlohmann::json> read_json_lines(const fs::path& path) {
  std::istringstream in(read_text(path));
  std::vector<nlohmann::json> out;
  for (std::string line; std::getline(in, line);) out.push_back(nlohmann::json::parse(line));
  return out;
}

/// A row's text: `text`, or `hex` where the bytes are no UTF-8.
inline std::string text_of(const nlohmann::json& row) {
  if (row.contains("text")) return row["text"];
  const std::string hex = row["hex"];
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

/// A new folder, removed at the end of its life.
class TestFolder {
 public:
  TestFolder() {
    std::string name = (fs::temp_directory_path() / "manta-models-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~TestFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace manta::models
