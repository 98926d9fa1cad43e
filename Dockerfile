# Both programs; choose one by --target baremetal-ccm or --target baremetal-announcer.
FROM --platform=$BUILDPLATFORM golang:1.26.11 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
COPY pkg pkg
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=v0.1.0-dev
RUN for program in baremetal-ccm baremetal-announcer; do \
      CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
        -ldflags "-s -w -X main.version=$VERSION -X k8s.io/component-base/version.gitVersion=$VERSION" \
        -o /out/$program ./cmd/$program || exit 1; \
    done

# Root, with the two capabilities that the manifest leaves it: raw sockets need NET_RAW,
# real-time scheduling SYS_NICE, and Kubernetes gives capabilities to user 0 only.
FROM gcr.io/distroless/static-debian12:latest AS baremetal-announcer
COPY --from=build /out/baremetal-announcer /baremetal-announcer
USER 0:0
ENTRYPOINT ["/baremetal-announcer"]

FROM gcr.io/distroless/static-debian12:nonroot AS baremetal-ccm
COPY --from=build /out/baremetal-ccm /baremetal-ccm
USER 65532:65532
ENTRYPOINT ["/baremetal-ccm"]
