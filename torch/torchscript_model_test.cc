#include <gmock/gmock.h>
#include <manta/torch.h>

#include "torch/test_support.h"

namespace manta::models {
namespace {

using ::testing::HasSubstr;

TensorView view_of(const std::vector<float>& values, std::vector<int64_t> shape) {
  return {.dtype = Dtype::kFloat32, .shape = std::move(shape), .data = values.data()};
}

// scripted.pt: forward(x, shift) = (x @ [[0, 1, 2], [3, 4, 5]] + shift, x > 0); raises for no rows.
TEST(TorchScriptModel, RunsWhatPythonExported) {
  auto model = TorchScriptModel::load(test_data("scripted.pt"));
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  const std::vector<float> x = {1, 2, 0, 1}, shift = {0.5};
  std::vector<Tensor> out;
  {
    const TensorView inputs[] = {view_of(x, {2, 2}), view_of(shift, {})};
    auto made = model->forward(inputs);
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    out = std::move(*made);
  }
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_THAT(out[0].values<float>(), ::testing::ElementsAre(6.5, 9.5, 12.5, 3.5, 4.5, 5.5));
  EXPECT_EQ(out[1].dtype, Dtype::kInt64);
  EXPECT_THAT(out[1].values<int64_t>(), ::testing::ElementsAre(1, 1, 0, 1));
  auto moved = std::move(*model);
  EXPECT_TRUE(moved.forward(std::vector<TensorView>{view_of(x, {2, 2}), view_of(shift, {1})}).ok());
}

TEST(TorchScriptModel, ErrorsAreStatuses) {
  auto model = TorchScriptModel::load(test_data("scripted.pt"));
  ASSERT_TRUE(model.ok());
  const std::vector<float> x = {1, 2, 3, 4}, shift = {0};
  const auto refusal = [&](std::vector<TensorView> inputs, const std::string& method = "forward") {
    return model->forward(inputs, method).status();
  };
  const TensorView none{.dtype = Dtype::kFloat32, .shape = {0, 2}, .data = nullptr};
  EXPECT_EQ(refusal({none, view_of(shift, {})}).code(), Code::kTaskFailed);
  EXPECT_THAT(refusal({none, view_of(shift, {})}).message(), HasSubstr("no rows"));
  EXPECT_EQ(refusal({view_of(x, {1, 4}), view_of(shift, {})}).code(), Code::kTaskFailed);  // shapes that do not multiply
  EXPECT_EQ(refusal({view_of(x, {2, 2})}).code(), Code::kTaskFailed);                      // an argument too few
  EXPECT_THAT(refusal({}, "backward").message(), HasSubstr("the module has no method 'backward'"));
  EXPECT_THAT(refusal({view_of(x, {-1, 2})}).message(), HasSubstr("input 0 has a size that is negative"));
  EXPECT_THAT(refusal({{.dtype = Dtype::kFloat32, .shape = {2}, .data = nullptr}}).message(),
              HasSubstr("input 0 has no data"));
  EXPECT_TRUE(model->forward(std::vector<TensorView>{view_of(x, {2, 2}), view_of(shift, {})}).ok());  // and it still works
}

TEST(TorchScriptModel, RefusesFilesThatAreNone) {
  EXPECT_EQ(TorchScriptModel::load("/nowhere/model.pt").status().code(), Code::kNotFound);
  const TestFolder folder;
  write_text(folder.path() / "model.pt", "not a module");
  const Status status = TorchScriptModel::load(folder.path() / "model.pt").status();
  EXPECT_EQ(status.code(), Code::kInvalid);
  EXPECT_THAT(status.message(), HasSubstr("model.pt: is no TorchScript module"));
  const std::string good = read_text(test_data("scripted.pt"));
  for (const size_t cut : {good.size() / 4, good.size() / 2, good.size() - 1}) {
    write_text(folder.path() / "model.pt", good.substr(0, cut));
    EXPECT_EQ(TorchScriptModel::load(folder.path() / "model.pt").status().code(), Code::kInvalid) << cut;
  }
}

// In a process of their own, since a loaded module stays loaded.
TEST(ModuleLoaderDeathTest, SaysWhatIsMissing) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto load_with = [](const char* library) {
    ::setenv("MANTA_TORCH_LIBRARY", library, 1);
    const Status status = TorchScriptModel::load(test_data("scripted.pt")).status();
    std::fprintf(stderr, "%s\n", status.to_string().c_str());
    std::_Exit(status.code() == Code::kUnavailable ? 0 : 1);
  };
  EXPECT_EXIT(load_with("/nowhere/libmanta_torch_module.so"), ::testing::ExitedWithCode(0),
              "looked for /nowhere/libmanta_torch_module.so");
  EXPECT_EXIT(load_with("/lib/x86_64-linux-gnu/libm.so.6"), ::testing::ExitedWithCode(0), "is no module of Manta's");
}

// A driver that only tokenizes stays small: LibTorch is not even mapped.
TEST(ModuleLoaderDeathTest, ATokenizerDoesNotLoadLibTorch) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto tokenize = [] {
    const auto tokenizer = Tokenizer::load(test_data("tiny"));
    const bool encoded = tokenizer.ok() && tokenizer->encode("wait for the child").ok();
    const bool mapped = read_text("/proc/self/maps").find("libtorch") != std::string::npos;
    std::_Exit(encoded && !mapped ? 0 : 1);
  };
  EXPECT_EXIT(tokenize(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace manta::models
