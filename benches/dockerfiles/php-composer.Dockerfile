FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends php-cli php-gmp composer
WORKDIR /app
COPY . .
RUN composer install --no-dev --no-interaction
CMD php -S 0.0.0.0:$PORT -t public public/index.php
