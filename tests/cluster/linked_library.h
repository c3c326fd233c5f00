// What the library of cluster-linked offers.
#pragma once

extern "C" int answer_of_library();
