FROM paas-bench/debian:13 AS build
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY . .
RUN npm run build

FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light
COPY --from=build /app/dist /var/www/html
CMD ["nginx", "-g", "daemon off;"]
