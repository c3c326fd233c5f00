// StoreCore's spilling against a model of a whole node: memory, disk, producers and readers, with every write and read of
// the disk ending when the test says so, and as it says.
#include "object_store/core_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

namespace manta::object_store {
namespace {

using Node = testing::ModelNode;
using testing::kMiB;
using testing::milliseconds;

TEST(StoreCoreSpill, TheOldestUnpinnedObjectsMakeRoom) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  for (int i = 0; i < 3; ++i) node.put({1, 20 * kMiB, 1, true});
  node.read(1, node.objects[0]);  // pinned, though it is the oldest
  node.put({1, 20 * kMiB, 1, true});
  ASSERT_EQ(node.writes.size(), 1u);
  ASSERT_EQ(node.writes[0].objects.size(), 1u);
  EXPECT_EQ(node.writes[0].objects[0].id.sequence, 2u);
  EXPECT_TRUE(node.is_at(node.objects[1].at)) << "readable until it is written";
  node.finish_write(0);
  EXPECT_FALSE(node.is_at(node.objects[1].at));
  EXPECT_EQ(node.objects.size(), 4u);
  EXPECT_EQ(node.core.counts().spilled_objects, 1u);
  node.core.check_invariants();
}

TEST(StoreCoreSpill, WhatIsOnDiskAlreadyGoesWithoutWriting) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  for (int i = 0; i < 4; ++i) node.put({1, 20 * kMiB, 1, true}), node.finish_all();
  ASSERT_FALSE(node.is_at(node.objects[0].at));
  for (int round = 0; round < 3; ++round) {
    for (auto& object : node.objects) {
      if (!node.is_at(object.at)) node.read(1, object);
      node.finish_all();
      while (!node.pins.empty()) node.unpin(0);
      node.advance(milliseconds(250));  // no longer hot
    }
  }
  EXPECT_LE(node.core.counts().disk_files, 4u);  // each was written once
  EXPECT_EQ(node.last_status.code(), Code::kOk);
  node.core.check_invariants();
}

TEST(StoreCoreSpill, AReaderWhoPinsDuringTheWriteKeepsTheMemory) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  node.join(2);
  node.put({1, 40 * kMiB, 1, true});
  node.put({1, 40 * kMiB, 1, true}, 200);
  ASSERT_EQ(node.writes.size(), 1u);
  node.read(2, node.objects[0]);
  node.finish_write(0);
  EXPECT_EQ(node.objects.size(), 1u);  // pinned: no room yet
  // Another reader gets what is still in memory, without the disk.
  node.read(1, node.objects[0]);
  EXPECT_TRUE(node.reads.empty());
  EXPECT_EQ(node.pins.size(), 2u);
  node.unpin(0);
  node.advance(milliseconds(20));
  EXPECT_EQ(node.objects.size(), 1u);
  node.unpin(0);
  node.advance(milliseconds(300));
  EXPECT_EQ(node.last_status.code(), Code::kFull);  // it was pinned or hot all the time
  node.core.check_invariants();
}

TEST(StoreCoreSpill, FreedWhileWrittenOrReadLeavesNothing) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  node.put({1, 40 * kMiB, 1, true});
  node.put({1, 40 * kMiB, 1, true});
  node.free(node.objects[0]);
  EXPECT_EQ(node.objects.size(), 1u) << "granted while a disk thread reads it";
  node.finish_write(0);
  ASSERT_EQ(node.objects.size(), 2u);
  EXPECT_TRUE(node.disk.empty());
  node.put({1, 40 * kMiB, 1, true});
  node.finish_all();
  uint64_t request = node.read(1, node.objects[1]);
  node.finish_write(0);  // of the third, to make room
  ASSERT_EQ(node.reads.size(), 1u);
  node.free(node.objects[1]);
  EXPECT_EQ(node.answers.at(request).code(), Code::kLost);
  node.finish_all();
  node.free(node.objects[2]);
  node.advance(milliseconds(20));
  node.core.check_invariants();
  EXPECT_EQ(node.core.counts().objects, 0u);
  EXPECT_TRUE(node.disk.empty());
  EXPECT_EQ(node.core.counts().disk_bytes, 0u);
}

TEST(StoreCoreSpill, ADamagedFileIsALostObjectAndNothingElse) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  for (int i = 0; i < 5; ++i) node.put({1, 20 * kMiB, 1, true}), node.finish_all();
  ASSERT_GE(node.core.counts().spilled_objects, 2u);
  uint64_t first = node.read(1, node.objects[0]);
  node.finish_write(0);
  node.finish_read(0, Node::Outcome::kDamaged);
  EXPECT_EQ(node.answers.at(first).code(), Code::kLost);
  uint64_t again = node.read(1, node.objects[0]);
  EXPECT_EQ(node.answers.at(again).code(), Code::kLost);  // known, without the disk
  uint64_t other = node.read(1, node.objects[1]);
  node.finish_all();
  EXPECT_TRUE(node.answers.at(other).ok());
  node.core.check_invariants();
  node.unpin(0);
  for (auto& object : node.objects) node.free(object);
  node.advance(milliseconds(20));
  EXPECT_TRUE(node.disk.empty());
}

TEST(StoreCoreSpill, ADiskThatCannotBeReadNowIsAskedAgain) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  for (int i = 0; i < 4; ++i) node.put({1, 20 * kMiB, 1, true}), node.finish_all();
  uint64_t first = node.read(1, node.objects[0]);
  while (!node.writes.empty()) node.finish_write(0);
  node.finish_read(0, Node::Outcome::kBusy);
  EXPECT_EQ(node.answers.at(first).code(), Code::kIo);
  uint64_t second = node.read(1, node.objects[0]);
  node.finish_all();
  EXPECT_TRUE(node.answers.at(second).ok());
  node.core.check_invariants();
}

TEST(StoreCoreSpill, AFullDiskIsAnErrorThatNamesTheHolders) {
  Node node(64 * kMiB, 48 * kMiB);  // room for two objects, and what is kept for readers
  node.join(1);
  for (int i = 0; i < 6; ++i) node.put({1, 20 * kMiB, 1, true}, 500), node.finish_all();
  EXPECT_EQ(node.objects.size(), 5u);
  node.advance(milliseconds(500));
  EXPECT_EQ(node.last_status.code(), Code::kFull);
  for (const char* part : {"pid 1 100 MiB", "the spill disk is full", "40 MiB of 48 MiB", "/spill", "MANTA_SPILL_BYTES"})
    EXPECT_NE(node.last_status.message().find(part), std::string::npos) << part << " in " << node.last_status.message();
  // The node goes on: what is freed makes room again.
  node.free(node.objects[0]);
  node.free(node.objects[1]);
  node.put({1, 20 * kMiB, 1, true}, 500);
  node.finish_all();
  EXPECT_EQ(node.objects.size(), 6u);
  node.core.check_invariants();
}

TEST(StoreCoreSpill, ADiskThatRefusesIsTriedAgainLater) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  for (int i = 0; i < 4; ++i) node.put({1, 20 * kMiB, 1, true}, 5'000);
  ASSERT_EQ(node.writes.size(), 1u);
  node.finish_write(0, Node::Outcome::kDiskFull);
  node.advance(milliseconds(500));
  EXPECT_TRUE(node.writes.empty());
  node.advance(milliseconds(501));
  ASSERT_EQ(node.writes.size(), 1u);
  node.finish_all();
  EXPECT_EQ(node.objects.size(), 4u);

  node.put({1, 20 * kMiB, 1, true}, 100);
  node.finish_write(0, Node::Outcome::kDiskFull);
  node.advance(milliseconds(100));
  EXPECT_NE(node.last_status.message().find("no space left on device"), std::string::npos) << node.last_status.to_string();
  node.core.check_invariants();
}

TEST(StoreCoreSpill, ReadersGoOnWhenMemoryAndDiskAreFull) {
  Node node(64 * kMiB, 64 * kMiB);
  node.join(1);
  for (int i = 0; i < 10; ++i) node.put({1, 7 * kMiB, 1, true}, 100), node.finish_all(), node.advance(milliseconds(100));
  const size_t count = node.objects.size();
  for (int i = 0; i < 20; ++i) node.put({1, 7 * kMiB, 1, true}, 100), node.finish_all(), node.advance(milliseconds(100));
  ASSERT_GE(node.objects.size(), count);
  EXPECT_EQ(node.last_status.code(), Code::kFull);
  for (int round = 0; round < 3; ++round) {
    for (auto& object : node.objects) {
      uint64_t request = node.read(1, object);
      for (int i = 0; i < 20 && request != 0 && !node.answers.contains(request); ++i) {
        node.finish_all();
        node.advance(milliseconds(20));
      }
      ASSERT_FALSE(node.pins.empty()) << object.sequence << ": " << node.answers[request].to_string();
      node.unpin(0);
      node.advance(milliseconds(250));
    }
  }
  node.core.check_invariants();
}

TEST(StoreCoreSpill, SmallObjectsShareAFile) {
  Node node(8 * kMiB, 256 * kMiB);
  node.join(1);
  for (int i = 0; i < 1'000; ++i) node.put({1, 10'000, 1, false}), node.finish_all();
  EXPECT_GT(node.core.counts().spilled_objects, 100u);
  EXPECT_LE(node.core.counts().disk_files, node.core.counts().spilled_objects / 10);
  for (auto& object : node.objects) node.free(object);
  node.advance(milliseconds(20));
  EXPECT_EQ(node.core.counts().disk_files, 0u);
  node.core.check_invariants();
}

TEST(StoreCoreSpill, AnObjectLargerThanHalfTheStoreTakesTurnsWithAnother) {
  Node node(64 * kMiB, 1024 * kMiB);
  node.join(1);
  for (int i = 0; i < 5; ++i) node.put({1, 50 * kMiB, 1, true}), node.finish_all();
  ASSERT_EQ(node.objects.size(), 5u);
  for (auto& object : node.objects) {
    node.read(1, object);
    node.finish_all();
    ASSERT_EQ(node.pins.size(), 1u);
    node.unpin(0);
    node.advance(milliseconds(250));
  }
  node.core.check_invariants();
}

// Random lives of producers, readers, disks and other nodes; seeds are printed, MANTA_SEED replays one.
class History {
 public:
  explicit History(unsigned seed)
      : random_(seed),
        small_disk_(random_() % 5 == 0),
        store_bytes_((8 + random_() % 40) * kMiB),
        node_(store_bytes_, small_disk_ ? 16 * kMiB : 2'000 * kMiB, random_() % 2 * 4 * kMiB) {
    node_.join(next_process_++);
  }

  void run(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) {
      act();
      std::erase_if(alive_, [&](size_t k) { return node_.objects[k].freed; });
      if (i % 16 == 0) node_.core.check_invariants();
    }
    node_.finish_all();
    while (!node_.pins.empty()) node_.unpin(0);
    node_.advance(std::chrono::seconds(2));
  }

  /// Everything that was not freed is there.
  void read_all() {
    for (size_t k : alive_) {
      Node::Object& object = node_.objects[k];
      // Somebody who waited longer, for a pull that a disk held up, may have his turn meanwhile.
      const auto is_read = [&] {
        return std::any_of(node_.pins.begin(), node_.pins.end(),
                           [&](const auto& pin) { return pin.sequence == object.sequence; });
      };
      const uint64_t request = node_.read(node_.producers.begin()->first, object, 2'000);
      for (int i = 0; i < 100 && !is_read() && !node_.answers.contains(request); ++i) {
        node_.finish_all();
        node_.advance(milliseconds(30));
      }
      if (object.lost) {
        ASSERT_EQ(node_.answers.at(request).code(), Code::kLost);
      } else if (!is_read() && !object.damaged) {
        // Only a disk without room for what would have to go may refuse.
        ASSERT_TRUE(node_.answers.contains(request));
        ASSERT_EQ(node_.answers.at(request).code(), Code::kFull) << node_.answers.at(request).to_string();
        ASSERT_TRUE(small_disk_) << node_.answers.at(request).to_string();
      }
      ASSERT_TRUE(!is_read() || (!object.damaged && !object.lost));
      while (!node_.pins.empty()) node_.unpin(0);
    }
  }

  void end() {
    for (size_t k : alive_) node_.free(node_.objects[k]);
    while (!node_.producers.empty()) node_.kill(node_.producers.begin()->first);
    node_.finish_all();
    node_.advance(milliseconds(20));
    node_.advance(std::chrono::seconds(61));
    node_.core.check_invariants();
    const StoreCore::Counts counts = node_.core.counts();
    EXPECT_EQ(counts.objects + counts.object_bytes + counts.limbo_objects + counts.held_bytes, 0u);
    EXPECT_EQ(counts.spilled_objects + counts.spilled_bytes + counts.disk_bytes + counts.disk_files, 0u);
    EXPECT_EQ(counts.waiting_requests + counts.waiting_restores + counts.copies + counts.copy_bytes + counts.pulls, 0u);
    EXPECT_TRUE(node_.holders.empty());
    EXPECT_TRUE(node_.disk.empty());
    EXPECT_TRUE(node_.memory.empty());
  }

 private:
  void act() {
    const unsigned what = random_() % 100;
    if (what < 5) {
      deal_with_others();
    } else if (what < 25) {
      put();
    } else if (what < 60 && !alive_.empty()) {
      if (node_.pins.size() < 40) node_.read(process(), node_.objects[alive_[random_() % alive_.size()]], random_() % 500);
    } else if (what < 75 && !alive_.empty()) {
      const size_t index = random_() % alive_.size();
      node_.free(node_.objects[alive_[index]]);
      alive_[index] = alive_.back(), alive_.pop_back();
    } else if (what < 85) {
      if (!node_.pins.empty()) node_.unpin(random_() % node_.pins.size());
    } else if (what < 95) {
      random_() % 3 == 0 ? end_pull() : end_disk_work();
    } else if (what < 99) {
      node_.advance(milliseconds(random_() % 60));
    } else if (random_() % 20 == 0 && node_.producers.size() > 1) {
      node_.kill(process());
    } else if (node_.producers.size() < 4) {
      node_.join(next_process_++);
    }
  }
  void put() {
    const bool dedicated = random_() % 20 == 0;
    const uint64_t small = 1 + random_() % (random_() % 4 == 0 ? 2 * kMiB : 9'000);
    const size_t before = node_.objects.size();
    node_.put({process(), dedicated ? 8 * kMiB + random_() % (8 * kMiB) : small, process(), dedicated}, random_() % 300);
    for (size_t k = before; k < node_.objects.size(); ++k) alive_.push_back(k);
  }
  void end_disk_work() {
    const unsigned luck = random_() % 30;
    if (random_() % 2 == 0 && !node_.writes.empty()) {
      node_.finish_write(random_() % node_.writes.size(), luck < 4 ? Node::Outcome::kDiskFull : Node::Outcome::kOk);
    } else if (!node_.reads.empty()) {
      node_.finish_read(random_() % node_.reads.size(), luck == 0   ? Node::Outcome::kDamaged
                                                        : luck == 1 ? Node::Outcome::kBusy
                                                                    : Node::Outcome::kOk);
    }
  }
  void end_pull() {
    if (node_.pulls.empty()) return;
    const unsigned luck = random_() % 20;
    if (luck == 0) node_.advance(milliseconds(random_() % 600));
    if (node_.pulls.empty()) return;
    node_.finish_pull(random_() % node_.pulls.size(), luck == 0   ? Status(Code::kUnavailable, "it is away")
                                                      : luck == 1 ? Status(Code::kLost, "it was freed there")
                                                                  : Status());
  }
  void deal_with_others() {
    const wire::NodeNumber other = next_node_ - random_() % 3;
    const unsigned what = random_() % 40;
    if (what == 0) {
      node_.lose(other);
      next_node_ += 3;
    } else if (what < 24) {
      const uint64_t size = random_() % 10 == 0 ? 8 * kMiB + random_() % (8 * kMiB) : 1 + random_() % (2 * kMiB);
      alive_.push_back(node_.objects.size());
      node_.add_remote(other, std::min(size, store_bytes_ / 2));
    } else if (!alive_.empty()) {
      Node::Object& object = node_.objects[alive_[random_() % alive_.size()]];
      if (!object.is_remote() && what < 34) {
        node_.copy_to(other, object);
      } else {
        node_.step(event::Prefetch{{object.at}, wire::TransferPriority::kArgument});
      }
    }
  }
  uint64_t process() {
    return std::next(node_.producers.begin(), static_cast<ptrdiff_t>(random_() % node_.producers.size()))->first;
  }

  std::mt19937 random_;
  bool small_disk_;
  uint64_t store_bytes_;
  Node node_;
  std::vector<size_t> alive_;  // objects
  uint64_t next_process_ = 1;
  wire::NodeNumber next_node_ = 103;  // the others are the three below it, each lost at most once
};

TEST(StoreCoreSpill, RandomHistoriesLoseAndLeakNothing) {
  const char* given = std::getenv("MANTA_SEED");
  const unsigned base = given != nullptr ? static_cast<unsigned>(std::atol(given)) : std::random_device{}();
  for (unsigned round = 0; round < (given != nullptr ? 1u : 40u) && !HasFailure(); ++round) {
    SCOPED_TRACE("MANTA_SEED=" + std::to_string(base + round));
    History history(base + round);
    history.run(4'000);
    history.read_all();
    history.end();
  }
}

}  // namespace
}  // namespace manta::object_store
