// Another user for what comes from others: drivers of submitted jobs and workers of remote jobs run under it (`--job-user`),
// so that they reach their own folder and program, and nothing else of this mantad: not the head's tables, not keys, tokens,
// logs or other users' files. mantad itself stays root. Jobs of one node share the user: among each other only the names of
// their folders, which nobody can list, keep them apart.
#pragma once

#include <manta/status.h>

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace manta::raylet {

struct JobUser {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  ///< All that the user is in.
  std::string home;
};

/// kInvalid: this process is not root, there is no such user, or it is root.
Result<JobUser> find_job_user(const std::string& name);

/// kInvalid: the user may not run this program, perhaps for a folder on the way to it. For a process with one thread.
Status check_may_run(const JobUser& user, const std::string& program);

/// "1000:1000:4,27", for become_job_user in another process.
std::string to_word(const JobUser& user);
/// Makes this process the user's, for good. Also takes back a umask that was closed for mantad's own files.
Status become_job_user(const std::string& word);

/// This process's new files become its own only, and its session's folder can be passed through to what is known by name.
Status close_session(const std::string& session_dir);
/// What is known by name in this folder may be reached by others; nobody may list it.
Status open_way(const std::string& folder);
/// A folder of the user's own, which nobody else may enter.
Status make_user_folder(const std::string& path, const JobUser& user);
/// The user may use this file or folder as its own.
Status give(const std::string& path, const JobUser& user);

/// Who it is, and that mantad's own folders are not for it; those that stand there already are.
void set_user(std::map<std::string, std::string>& env, const JobUser& user);

}  // namespace manta::raylet
