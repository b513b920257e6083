// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "api/api_fixture_test.h"

namespace sluice::api {
namespace {

class InfoTest : public ApiTest {
 protected:
  static std::string info_of(const Mxc& mxc) {
    return "/_matrix/media/unstable/info/" + mxc.server_name() + "/" + mxc.media_id();
  }
};

TEST_F(InfoTest, SaysWhatIsStored) {
  const Mxc mxc = store("content", {.content_type = "text/\"odd\"", .filename = "", .content_length = {}});
  const Reply reply = get(info_of(mxc));
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, fmt::format(R"({{"content_uri":"{}","content_type":"text/\"odd\"","size":7,)"
                                    R"("hashes":{{"sha256":"{}"}}}})",
                                    mxc.to_uri(), sha256("content").to_hex()));
}

TEST_F(InfoTest, IsForThoseWithAToken) { EXPECT_EQ(get(info_of(store("content")), {}).errcode(), "M_MISSING_TOKEN"); }

TEST_F(InfoTest, OfWhatIsNotStored) {
  EXPECT_EQ(get(info_of(reserve())).errcode(), "M_NOT_YET_UPLOADED");
  EXPECT_EQ(get(info_of(*Mxc::of("example.org", "unknown"))).errcode(), "M_NOT_FOUND");
  EXPECT_EQ(get(info_of(*Mxc::of("elsewhere.org", "unknown"))).errcode(), "M_NOT_FOUND");
}

TEST_F(InfoTest, AdministratorsSeeWhoseItIsAndWhatIsQuarantined) {
  const Mxc mxc = store("bad");
  ASSERT_EQ(send("POST", "/_matrix/media/unstable/admin/quarantine/hash/" + sha256("bad").to_hex(), "admin").status,
            200);
  EXPECT_EQ(get(info_of(mxc)).errcode(), "M_NOT_FOUND");
  const Reply reply = send("GET", info_of(mxc), "admin");
  EXPECT_EQ(reply.text("user_id"), "@alice:example.org");
  EXPECT_TRUE(reply.body.contains("\"quarantined\":true"));
}

// ---- usage ----

TEST_F(InfoTest, UsageCountsWhatIsStored) {
  const std::string path = "/_matrix/media/unstable/org.matrix.msc4034/usage";
  EXPECT_EQ(get(path).body, R"({"org.matrix.msc4034.storage.used":0,"org.matrix.msc4034.storage.files":0})");
  store("content");
  store("content");
  reserve();
  EXPECT_EQ(get(path).body, R"({"org.matrix.msc4034.storage.used":14,"org.matrix.msc4034.storage.files":2})");
  EXPECT_EQ(get(path, {}).errcode(), "M_MISSING_TOKEN");
}

TEST_F(InfoTest, TheConfigurationTellsTheQuota) {
  limits_.quotas.push_back({.users = "@alice:*", .max_files = 7, .max_bytes = 1000, .window = {}});
  const std::string path = "/_matrix/client/v1/media/config";
  const std::uint64_t max_size = limits_.uploads.max_size;
  EXPECT_EQ(get(path).body, fmt::format("{{\"m.upload.size\":{},\"org.matrix.msc4034.storage.size\":1000,"
                                        "\"org.matrix.msc4034.storage.max_files\":7}}",
                                        max_size));
  EXPECT_EQ(send("GET", path, "mallory").body, fmt::format("{{\"m.upload.size\":{}}}", max_size));
}

}  // namespace
}  // namespace sluice::api
