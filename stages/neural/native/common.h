// What the files here share.
#pragma once

#include <ATen/ATen.h>

#include <string>

namespace sure {

inline thread_local std::string message;

// Runs an action; returns nothing, or a message of what went wrong, which lives until the same thread's next call.
template <class Action>
const char* guarded(Action action) {
  try {
    action();
    return nullptr;
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  } catch (const std::exception& error) {
    message = error.what();
  } catch (...) {
    message = "an unknown C++ exception";
  }
  return message.c_str();
}

}  // namespace sure
