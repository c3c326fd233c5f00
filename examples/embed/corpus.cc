// manta-corpus: makes text to embed out of manual pages, as a Manta job.
//
// The list of pages is a small table; tasks render the pages (with mandoc) and cut them into passages, 16 pages a batch, on
// all CPUs; the passages stream into Parquet in the order of the pages.
#include <arrow/api.h>
#include <manta/data.h>
#include <manta/manta.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "examples/embed/passages.h"
#include "examples/embed/program_output.h"

namespace {

namespace fs = std::filesystem;

// Passages of page n are numbered from n * kPassagesPerPage, so that a task numbers its own without asking anyone.
constexpr int64_t kPassagesPerPage = 10'000;

/// Rows (number, path) of pages in, rows (id, page, section, heading, text) of passages out.
arrow::Result<manta::Batch> render_pages(manta::Batch pages) {
  const auto& numbers = static_cast<const arrow::Int64Array&>(*pages->column(0));
  const auto& paths = static_cast<const arrow::StringArray&>(*pages->column(1));
  arrow::Int64Builder ids;
  arrow::StringBuilder page_names, sections, headings, texts;
  for (int64_t row = 0; row < pages->num_rows(); ++row) {
    const std::string path = paths.GetString(row);
    const embed::PageName name = embed::name_of_page(fs::path(path).filename().string());
    const std::string rendered = manta::value_or_throw(
        embed::output_of({"mandoc", "-T", "utf8", "-O", "width=1000", path}, {.timeout = std::chrono::seconds(60)}));
    const std::vector<embed::Passage> passages = embed::cut_page(rendered);
    for (size_t i = 0; i < std::min<size_t>(passages.size(), kPassagesPerPage); ++i) {
      ARROW_RETURN_NOT_OK(ids.Append(numbers.Value(row) * kPassagesPerPage + static_cast<int64_t>(i)));
      ARROW_RETURN_NOT_OK(page_names.Append(name.page));
      ARROW_RETURN_NOT_OK(sections.Append(name.section));
      ARROW_RETURN_NOT_OK(headings.Append(passages[i].heading));
      ARROW_RETURN_NOT_OK(texts.Append(passages[i].text));
    }
  }
  arrow::FieldVector fields = {arrow::field("id", arrow::int64(), false)};
  for (const char* column : {"page", "section", "heading", "text"})
    fields.push_back(arrow::field(column, arrow::utf8(), false));
  arrow::ArrayVector columns;
  for (arrow::ArrayBuilder* builder :
       std::initializer_list<arrow::ArrayBuilder*>{&ids, &page_names, &sections, &headings, &texts}) {
    ARROW_ASSIGN_OR_RAISE(columns.emplace_back(), builder->Finish());
  }
  const int64_t rows = columns.front()->length();
  return arrow::RecordBatch::Make(arrow::schema(fields), rows, std::move(columns));
}

/// Folders stand for the pages in them. Links are left out: what they lead to is rendered under its own name.
std::vector<std::string> find_pages(const std::vector<std::string>& given) {
  std::vector<std::string> pages;
  const auto add = [&pages](const fs::path& path) {
    if (!fs::is_symlink(path) && !embed::name_of_page(path.filename().string()).page.empty()) pages.push_back(path.string());
  };
  for (const std::string& path : given) {
    if (!fs::is_directory(path)) {
      if (!fs::exists(path)) throw manta::Error({manta::Code::kNotFound, path + ": no such page or folder"});
      add(path);
      continue;
    }
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) add(entry.path());
    }
  }
  std::ranges::sort(pages);
  return pages;
}

std::vector<std::string> read_list(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw manta::Error({manta::Code::kNotFound, path + ": cannot read the list of pages"});
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

arrow::Result<std::shared_ptr<arrow::Table>> table_of_pages(const std::vector<std::string>& pages) {
  arrow::Int64Builder numbers;
  arrow::StringBuilder paths;
  for (size_t i = 0; i < pages.size(); ++i) {
    ARROW_RETURN_NOT_OK(numbers.Append(static_cast<int64_t>(i)));
    ARROW_RETURN_NOT_OK(paths.Append(pages[i]));
  }
  ARROW_ASSIGN_OR_RAISE(auto number_column, numbers.Finish());
  ARROW_ASSIGN_OR_RAISE(auto path_column, paths.Finish());
  return arrow::Table::Make(arrow::schema({arrow::field("number", arrow::int64()), arrow::field("path", arrow::utf8())}),
                            {number_column, path_column});
}

manta::Async<int> program(int argc, char** argv) {
  CLI::App app("Renders manual pages and cuts them into passages of 60 to 120 words, as Parquet.");
  std::vector<std::string> given;
  std::string list, output;
  app.add_option("PAGES", given, "manual pages (man3/qsort.3.gz) or folders of them");
  app.add_option("--list", list, "a file that names further pages, one a line");
  app.add_option("--output", output, "the folder to make")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    co_return app.exit(error) == 0 ? 0 : 2;
  }
  if (!list.empty()) {
    for (std::string& line : read_list(list)) given.push_back(std::move(line));
  }
  const std::vector<std::string> pages = find_pages(given);
  if (pages.empty()) throw manta::Error({manta::Code::kNotFound, "there are no manual pages in what was given"});

  const auto table = table_of_pages(pages);
  if (!table.ok()) throw manta::Error({manta::Code::kInternal, table.status().ToString()});
  const manta::WriteResult result = co_await manta::from_arrow(*table)
                                        .map_batches<&render_pages>({.batch_size = 16, .name = "render"})
                                        .write_parquet(output);
  std::printf("%zu pages, %lld passages in %s\n", pages.size(), static_cast<long long>(result.rows), result.path.c_str());
  co_return 0;
}

}  // namespace

int main(int argc, char** argv) { return manta::run(argc, argv, program); }
