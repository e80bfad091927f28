FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends golang-go
ENV GOTOOLCHAIN=auto
WORKDIR /app
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -o /usr/local/bin/hello .
CMD ["hello"]
