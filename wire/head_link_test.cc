#include "wire/head_link.h"

#include <gtest/gtest.h>

namespace manta::wire {
namespace {

using namespace std::string_view_literals;

TEST(HeadLinkCodec, ARequestKeepsItsKindAndFields) {
  CreateActor create;
  create.actor = {7, 8};
  create.name = "boss";
  create.scheduling_class.labels = {{"zone", "a"}};
  create.scheduling_class.node = 3;
  const std::string bytes = encode_to_head({.number = 3, .message = HeadRequest{7, create}});
  const Result<Told> message = decode_to_head(bytes);
  ASSERT_TRUE(message.ok()) << message.status().to_string();
  const auto& request = std::get<HeadRequest>(message->message);
  EXPECT_EQ(message->number, 3u);
  EXPECT_EQ(request.from, 7u);
  const auto& again = std::get<CreateActor>(request.request);
  EXPECT_EQ(again.actor, create.actor);
  EXPECT_EQ(again.scheduling_class, create.scheduling_class);
  EXPECT_EQ(encode_to_head(*message), bytes);
}

TEST(HeadLinkCodec, AnAnswerKeepsItsKindAndFields) {
  NodeInfo info;
  info.name = "n";
  const Joined joined{.nonce = 1, .number = 2, .cluster = "c", .members = {info}, .life = 3};
  const Result<FromHead> message = decode_from_head(encode_from_head(joined));
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(std::get<Joined>(*message).members.at(0).name, "n");
  EXPECT_EQ(std::get<Joined>(*message).life, 3u);
}

TEST(HeadLinkCodec, WhatIsNoMessageIsRefused) {
  const auto code = [](std::string_view bytes) { return decode_to_head(bytes).status().code(); };
  EXPECT_EQ(code(""), Code::kInvalid);
  EXPECT_EQ(code("\x01"sv), Code::kInvalid);
  EXPECT_EQ(code("\x91\x00"sv), Code::kInvalid);                              // no message
  EXPECT_EQ(code("\x92\xff\x92\x00\x90"sv), Code::kInvalid);                  // number -1
  EXPECT_EQ(code("\x92\x00\x92\x63\x90"sv), Code::kInvalid);                  // no alternative 99
  EXPECT_EQ(code("\x92\x00\x92\xff\x90"sv), Code::kInvalid);                  // nor -1
  EXPECT_EQ(code("\x92\x00\x92\x00\x01"sv), Code::kInvalid);                  // fields that are no array
  EXPECT_EQ(code("\x92\x00\x91\x00"sv), Code::kInvalid);                      // no fields
  EXPECT_EQ(code("\x92\x00\x92\x02\x92\x01\x92\x63\x90"sv), Code::kInvalid);  // a request of no known kind
}

}  // namespace
}  // namespace manta::wire
