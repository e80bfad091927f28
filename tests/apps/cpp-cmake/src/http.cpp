#include "http.hpp"

#include <cstdio>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int serve(int port, const std::function<std::string()> &page)
{
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    const int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) || listen(listener, 64)) {
        std::perror("listen");
        return 1;
    }
    for (;;) {
        char request[4096];
        const int client = accept(listener, nullptr, nullptr);
        if (client >= 0 && read(client, request, sizeof request) > 0) {
            const auto body = page();
            const auto answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
            if (write(client, answer.data(), answer.size()) < 0) std::perror("write");
        }
        close(client);
    }
}
