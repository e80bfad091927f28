FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends openjdk-21-jdk-headless maven
ENV MAVEN_OPTS=-Djavax.net.ssl.trustStore=/etc/ssl/certs/java/cacerts
WORKDIR /app
COPY pom.xml .
RUN mvn --batch-mode --quiet dependency:go-offline
COPY src src
RUN mvn --batch-mode --quiet package -DskipTests
CMD ["java", "-jar", "target/hello-0.0.1-SNAPSHOT.jar"]
