#pragma once
#include <functional>
#include <string>

// Answers every request with what `page` gives, one after another.
int serve(int port, const std::function<std::string()> &page);
