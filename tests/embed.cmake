# The main job, end to end: Python looks at what the programs did, through pyarrow. Included by tests/CMakeLists.txt.
if(TARGET manta-embed AND TARGET manta_torch_module)
  foreach(name results errors kills)
    add_test(NAME embed_${name} COMMAND ${PROJECT_SOURCE_DIR}/.venv/bin/python ${CMAKE_CURRENT_SOURCE_DIR}/embed_${name}_test.py)
    set_tests_properties(embed_${name} PROPERTIES TIMEOUT 600
      ENVIRONMENT "MANTA_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1")
  endforeach()
endif()

if(TARGET manta-corpus)
  add_executable(examples_passages_test examples_passages_test.cc ${PROJECT_SOURCE_DIR}/examples/embed/passages.cc)
  target_include_directories(examples_passages_test PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(examples_passages_test PRIVATE GTest::gtest_main)
  add_test(NAME examples_passages COMMAND examples_passages_test)
endif()
