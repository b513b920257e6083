// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "api/api_fixture_test.h"

namespace sluice::api {
namespace {

class QuarantinePathTest : public ApiTest {
 protected:
  static std::string by(const std::string& selector) { return "/_matrix/media/unstable/admin/quarantine/" + selector; }
  static std::string by(const Mxc& mxc) { return by(mxc.server_name() + "/" + mxc.media_id()); }
};

TEST_F(QuarantinePathTest, ByIdByUserAndByHash) {
  const Mxc mxc = store("bad");
  store("bad");
  for (const std::string& path : {by(mxc), by("user/@alice:example.org"), by("hash/" + sha256("bad").to_hex())}) {
    EXPECT_EQ(send("POST", path, "admin").body, "{\"num_quarantined\":2}") << path;
    const Reply hidden = get(path_of(mxc));
    EXPECT_EQ(hidden.status, 404);
    EXPECT_EQ(hidden.errcode(), "M_NOT_FOUND");
    EXPECT_EQ(send("DELETE", path, "admin").body, "{\"num_released\":2}") << path;
    EXPECT_EQ(get(path_of(mxc)).body, "bad");
  }
}

TEST_F(QuarantinePathTest, TheContentIsNotTakenAgain) {
  ASSERT_EQ(send("POST", by("hash/" + sha256("bad").to_hex()), "admin").body, "{\"num_quarantined\":0}");
  const Reply refused = send(put_request(reserve(), "bad"));
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.errcode(), "M_FORBIDDEN");
  EXPECT_EQ(refused.notes.outcome, "broken");
  EXPECT_EQ(send(put_request(reserve(), "good")).status, 200);
}

TEST_F(QuarantinePathTest, IsForAdministratorsOnly) {
  const Mxc mxc = store("content");
  for (const std::string& path : {by(mxc), by("user/@alice:example.org"), by("hash/" + sha256("content").to_hex())}) {
    for (const char* method : {"POST", "DELETE"}) {
      EXPECT_EQ(send(method, path, "alice").errcode(), "M_FORBIDDEN");
      EXPECT_EQ(send(method, path, "unknown").status, 401);
    }
  }
  EXPECT_EQ(get(path_of(mxc)).status, 200);
}

TEST_F(QuarantinePathTest, RefusesWhatItDoesNotUnderstand) {
  EXPECT_EQ(send("POST", by("hash/abc"), "admin").errcode(), "M_INVALID_PARAM");
  EXPECT_EQ(send("POST", by("user/alice"), "admin").errcode(), "M_INVALID_PARAM");
  EXPECT_EQ(send("POST", by("user/@nora:example.net"), "admin").errcode(), "M_INVALID_PARAM");
  EXPECT_EQ(send("POST", by("example.org/unknown"), "admin").errcode(), "M_NOT_FOUND");
  EXPECT_EQ(send("POST", by("example.net/unknown"), "admin").errcode(), "M_NOT_FOUND");
}

}  // namespace
}  // namespace sluice::api
