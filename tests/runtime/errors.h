// What a test says of an error it wants.
#pragma once

#include <manta/error.h>

#include <gtest/gtest.h>

namespace program {

/// The Error that `f` throws; the test fails when it throws none.
template <typename F>
manta::Error error_of(F&& f) {
  try {
    f();
  } catch (const manta::Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return manta::Error(manta::Status());
}

}  // namespace program
