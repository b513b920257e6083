// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "api/api_fixture_test.h"

namespace sluice::api {
namespace {

class DeleteTest : public ApiTest {
 protected:
  static std::string path_to_delete(const Mxc& mxc) {
    return "/_matrix/media/unstable/download/" + mxc.server_name() + "/" + mxc.media_id();
  }
};

TEST_F(DeleteTest, TheOwnerDeletes) {
  const Mxc mxc = store("content");
  const Reply reply = send("DELETE", path_to_delete(mxc), "alice");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "{\"purged\":true}");
  EXPECT_EQ(reply.notes.operation, "delete");
  EXPECT_EQ(reply.notes.media, mxc.to_uri());
  EXPECT_EQ(get(path_of(mxc)).errcode(), "M_NOT_FOUND");
  EXPECT_EQ(send(put_request(mxc, "anew")).status, 404);
  EXPECT_EQ(send("DELETE", path_to_delete(mxc), "alice").status, 404);
}

TEST_F(DeleteTest, AnAdministratorDeletesWhatIsOfOthers) {
  const Mxc mxc = store("content");
  EXPECT_EQ(send("DELETE", path_to_delete(mxc), "mallory").errcode(), "M_FORBIDDEN");
  EXPECT_EQ(send("DELETE", path_to_delete(mxc), "guest").errcode(), "M_FORBIDDEN");
  EXPECT_EQ(send("DELETE", path_to_delete(mxc), "unknown").errcode(), "M_UNKNOWN_TOKEN");
  EXPECT_EQ(get(path_of(mxc)).body, "content");
  EXPECT_EQ(send("DELETE", path_to_delete(mxc), "admin").status, 200);
  EXPECT_EQ(get(path_of(mxc)).status, 404);
}

TEST_F(DeleteTest, OnAnotherHomeserverNobodyIsAnAdministrator) {
  EXPECT_EQ(send("DELETE", path_to_delete(*Mxc::of("example.net", "id")), "admin").status, 404);
  EXPECT_EQ(send("DELETE", path_to_delete(*Mxc::of("elsewhere.org", "id")), "admin").status, 404);
  EXPECT_EQ(send("DELETE", "/_matrix/media/unstable/download/example.org/..%2f..", "admin").status, 404);
}

}  // namespace
}  // namespace sluice::api
