#include "tests/cluster/linked_library.h"

int answer_of_library() { return 42; }
