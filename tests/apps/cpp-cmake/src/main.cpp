#include "http.hpp"

#include <cstdlib>
#include <sqlite3.h>

int main()
{
    const char *port = std::getenv("PORT");
    return serve(port ? std::atoi(port) : 8080, [] { return std::string("Hello from C++ and SQLite ") + sqlite3_libversion() + "\n"; });
}
