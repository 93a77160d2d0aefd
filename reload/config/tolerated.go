package config

import "strings"

// elsewhere lists the keys of the wider OpenClaw product that this program
// does not serve, by section. They load with one warning each, so that an
// existing configuration starts unchanged. A word with a * at its end stands
// for every key that begins so.
var elsewhere = [...]struct{ section, keys string }{
	{"", "accessGroups acp agent approvals audio auth broadcast browser canvasHost cli commands cron diagnostics discovery env " +
		"hooks identity mcp media memory meta nodeHost plugins proxy routing secrets skills surfaces talk ui update web wizard"},
	{"gateway", "allowRealIpFallback channelHealthCheckMinutes channelMaxRestartsPerHour channelStaleEventThresholdMinutes cliAgents " +
		"nodes portals publicOrigin push remote roles terminal webchat"},
	{"gateway.auth", "allowTailscale identityScopes trustedProxy"},
	{"gateway.auth.rateLimit", "exemptLoopback"},
	{"gateway.hotReload", "deferralTimeoutMs"},
	{"gateway.tailscale", "serviceName preserveFunnel"},
	{"gateway.tls", "caPath"},
	{"gateway.controlUi", "allowExternalEmbedUrls allowInsecureAuth basePath chatMessageMaxWidth dangerously* embedSandbox enabled environment github root"},
	{"gateway.http", "securityHeaders"},
	{"gateway.http.endpoints.chatCompletions", "images max*"},
	{"gateway.http.endpoints.responses", "files images max*"},
	{"logging", "audit console* maxFileBytes redact*"},
	{"agents", "entries"},
	{"agents.defaults", "agentRuntime block* bootstrap* cliBackends compaction context* elevatedDefault embedded* envelope* experimental heartbeat humanDelay " +
		"image* llm maxConcurrent mediaMaxMb memorySearch models music* params pdf* reasoningDefault repoRoot runRetries runtime silentReply* " +
		"skills skipBootstrap startupContext subagents systemPromptOverride thinkingDefault timeFormat tools typing* userTimezone verboseDefault video* voice*"},
	{"agents.defaults.model", "timeoutMs"},
	{"agents.defaults.sandbox", sandboxElsewhere},
	{"agents.list[]", "agentDir agentRuntime context* description embedded* fastModeDefault groupChat heartbeat humanDelay identity memorySearch models params " +
		"reasoningDefault runtime skills skipBootstrap subagents systemPromptOverride thinkingDefault tts verboseDefault"},
	{"agents.list[].model", "timeoutMs"},
	{"agents.list[].sandbox", sandboxElsewhere},
	{"models", "bedrockDiscovery mode pricing"},
	{"models.providers.*", "auth authHeader contextTokens contextWindow injectNumCtxForOpenAICompat localService maxTokens params region request timeoutSeconds"},
	{"models.providers.*.models[]", "api baseUrl compat contextTokens headers mediaInput metadataSource params thinkingLevelMap"},
	{"models.providers.*.models[].cost", "tieredPricing"},
	{"messages", "groupChat inbound messagePrefix queue removeAckAfterReply responsePrefix statusReactions suppressToolErrors tts usageTemplate visibleReplies"},
	{"channels.*", channelElsewhere + whatsappElsewhere},
	{"channels.*.accounts.*", channelElsewhere + whatsappElsewhere},
	{"channels.*.streaming", "block chunkMode nativeTransport preview progress"},
	{"channels.*.accounts.*.streaming", "block chunkMode nativeTransport preview progress"},
	{"channels.*.network", "autoSelectFamily dnsResultOrder"},
	{"channels.*.accounts.*.network", "autoSelectFamily dnsResultOrder"},
	{"channels.*.groups.*", groupElsewhere},
	{"channels.*.accounts.*.groups.*", groupElsewhere},
	{"channels.*.groups.*.topics.*", groupElsewhere},
	{"channels.*.accounts.*.groups.*.topics.*", groupElsewhere},
	{"channels.*.direct.*", groupElsewhere},
	{"channels.*.accounts.*.direct.*", groupElsewhere},
	{"bindings[]", "comment dmScope session type"},
	{"bindings[].match", "guildId roles teamId"},
	{"tools", toolsElsewhere},
	{"agents.list[].tools", toolsElsewhere + " web"},
	{"tools.web", "search"},
	{"tools.web.fetch", "cacheTtlMinutes firecrawl maxCharsCap provider readability ssrfPolicy useTrustedEnvProxy userAgent"},
	{"tools.exec", execElsewhere},
	{"agents.list[].tools.exec", execElsewhere},
	{"session", "agentToAgent heartbeatIdleMinutes identityLinks idleMinutes maintenance parentFork* reset* sendPolicy sharedTranscript* store " +
		"threadBindings typing* writeLock"},
}

const toolsElsewhere = "agentToAgent bash codeMode elevated experimental fs links loopDetection media message sandbox sessions* subagents toolSearch toolsBySender"

const execElsewhere = "applyPatch ask cleanupMs commandHighlighting host node notify* pathPrepend reviewer safeBin* security strictInlineEval"

const channelElsewhere = "ack* actions autoTopicLabel blockStreaming* capabilities chunkMode commands configWrites contextVisibility customCommands defaultAccount defaultTo dmHistoryLimit dms " +
	"draftChunk error* execApprovals healthMonitor heartbeat historyLimit includeGroupHistoryContext linkPreview markdown maxRetries mediaGroupFlushMs name pollingStallThresholdMs proxy " +
	"reactionLevel reactionNotifications replyToMode responsePrefix retry silentErrorReplies streamMode textChunkLimit threadBindings timeoutSeconds tokenFile trustedLocalFileRoots webhookCertPath webhookHost webhookPort"

const groupElsewhere = "autoTopicLabel disableAudioPreflight error* ingest skills* systemPrompt"

const sandboxElsewhere = "backend browser docker perSession prune scope sessionToolsVisibility ssh workspaceAccess workspaceRoot"

// tolerated warns of a key of the wider product and reports whether m, found
// in this section, is one.
func (b *binder) tolerated(path, section string, m *Member) bool {
	if section == "" && m.Key == "$schema" {
		return true
	}
	if b.restricts(path, section, m) {
		return true
	}
	for _, e := range elsewhere {
		if e.section != section {
			continue
		}
		for _, word := range strings.Fields(e.keys) {
			prefix, open := strings.CutSuffix(word, "*")
			if m.Key == word || open && strings.HasPrefix(m.Key, prefix) {
				b.warn(path, &Node{Line: m.Line, Column: m.Column}, "belongs to the wider OpenClaw product; not served by this gateway and ignored")
				return true
			}
		}
	}
	return false
}

// toleratedElement is tolerated for an element of a map: a channel of the wider
// product's, which says of itself no kind that is ours.
func (b *binder) toleratedElement(path, pattern string, m *Member) bool {
	if pattern != "channels" || network(m.Key) || m.Value.Get("kind") != nil {
		return false
	}
	if m.Key == "defaults" {
		b.channelDefaults(path, m)
		return true
	}
	b.warn(path, &Node{Line: m.Line, Column: m.Column}, "is not a channel of this gateway and ignored; a program becomes one with kind: \"process\" and a command")
	return true
}

// olderWords are values of the wider product for keys of ours, and what they mean here.
var olderWords = [...]struct{ pattern, word, means, msg string }{
	{"logging.level", "trace", "debug", "trace is read as debug"},
	{"logging.level", "fatal", "error", "fatal is read as error"},
	{"logging.level", "silent", "error", "silent is read as error: errors are always logged"},
	{"models.providers.*.api", "openai-codex-responses", "openai-codex-responses", unspoken},
	{"models.providers.*.api", "azure-openai-responses", "azure-openai-responses", unspoken},
	{"models.providers.*.api", "google-generative-ai", "google-generative-ai", unspoken},
	{"models.providers.*.api", "google-vertex", "google-vertex", unspoken},
	{"models.providers.*.api", "bedrock-converse-stream", "bedrock-converse-stream", unspoken},
	{"models.providers.*.api", "github-copilot", "github-copilot", unspoken},
	{"models.providers.*.api", "ollama", "ollama", unspoken + "; Ollama also speaks openai-completions at …/v1"},
}

const unspoken = "this program does not speak that protocol; turns with this provider's models fail"

// builtOutside are providers that the wider product knows without an entry in
// models.providers. A model of theirs is worth a warning, not a refusal.
const builtOutside = "amazon-bedrock anthropic azure-openai cerebras claude-cli codex-cli cohere copilot-proxy deepseek fireworks github-copilot google google-antigravity " +
	"google-gemini-cli google-vertex groq huggingface kilocode kimi-coding litellm lmstudio minimax mistral moonshot nvidia ollama openai openai-codex opencode " +
	"openrouter perplexity qianfan qwen qwen-portal synthetic together venice vercel-ai-gateway vllm volcengine xai xiaomi zai"
