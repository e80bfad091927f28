/* Answers every request alike, one after another. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

int main(void)
{
    const char *port = getenv("PORT");
    const char *text = "Hello from C\n";
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 8080) };
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("listen");
        return 1;
    }
    for (;;) {
        char request[4096], answer[512];
        int client = accept(listener, NULL, NULL);
        if (client < 0 || read(client, request, sizeof request) <= 0) {
            close(client);
            continue;
        }
        int length = snprintf(answer, sizeof answer,
            "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nETag: \"%lx\"\r\nConnection: close\r\n\r\n%s",
            strlen(text), crc32(0, (const Bytef *)text, strlen(text)), text);
        write(client, answer, length);
        close(client);
    }
}
